"""Losses: one formula a file, as nn.Module, with the signatures that a lightly user knows."""

from sslfast.losses.barlow_twins import BarlowTwinsLoss
from sslfast.losses.class_rebalancing import count_ab_bins, rebalancing_weights
from sslfast.losses.dcl import DCLLoss, DCLWLoss
from sslfast.losses.dino import DINOLoss
from sslfast.losses.info_nce import InfoNCELoss
from sslfast.losses.memory_bank import MemoryBankModule, NNMemoryBankModule
from sslfast.losses.negative_cosine_similarity import NegativeCosineSimilarity
from sslfast.losses.nt_xent import NTXentLoss
from sslfast.losses.soft_cross_entropy import SoftCrossEntropyLoss
from sslfast.losses.supcon import SupConLoss
from sslfast.losses.swav import SwaVLoss
from sslfast.losses.triplet import TripletLoss
from sslfast.losses.vicreg import VICRegLoss

__all__ = [
    "BarlowTwinsLoss",
    "DCLLoss",
    "DCLWLoss",
    "DINOLoss",
    "InfoNCELoss",
    "MemoryBankModule",
    "NNMemoryBankModule",
    "NTXentLoss",
    "NegativeCosineSimilarity",
    "SoftCrossEntropyLoss",
    "SupConLoss",
    "SwaVLoss",
    "TripletLoss",
    "VICRegLoss",
    "count_ab_bins",
    "rebalancing_weights",
]
