"""Losses: one formula a file, as nn.Module, with the signatures that a lightly user knows."""

from sslfast.losses.memory_bank import MemoryBankModule
from sslfast.losses.nt_xent import NTXentLoss

__all__ = ["MemoryBankModule", "NTXentLoss"]
