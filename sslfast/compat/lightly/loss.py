"""lightly's losses (`lightly.loss`), which `sslfast.losses` holds under their names and signatures."""

from sslfast.losses import (
    BarlowTwinsLoss,
    DCLLoss,
    DCLWLoss,
    DINOLoss,
    NegativeCosineSimilarity,
    NTXentLoss,
    SwaVLoss,
    VICRegLoss,
)

__all__ = [
    "BarlowTwinsLoss",
    "DCLLoss",
    "DCLWLoss",
    "DINOLoss",
    "NTXentLoss",
    "NegativeCosineSimilarity",
    "SwaVLoss",
    "VICRegLoss",
]
