"""lightly's helpers for training (`lightly.utils`)."""
