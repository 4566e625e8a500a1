"""torchvision's transforms (`torchvision.transforms`); what is not here stays imported from torchvision."""
