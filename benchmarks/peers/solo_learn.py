"""solo-learn's two loss functions by their published formulas, with the whole matrix of similarities.

The package itself pins libraries too old to be installed beside a current torch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def simclr_loss_func(z: Tensor, indexes: Tensor, temperature: float) -> Tensor:
    """NT-Xent of raw embeddings `z` (N, d); rows with the same entry of `indexes` (N,) are views of one image."""
    z = functional.normalize(z, dim=1)
    exponentials = (z @ z.T / temperature).exp()
    same = indexes[:, None] == indexes
    positives = (exponentials * (same & ~torch.eye(len(z), dtype=torch.bool, device=z.device))).sum(1)
    return -(positives / (positives + (exponentials * ~same).sum(1))).log().mean()


def byol_loss_func(p: Tensor, z: Tensor) -> Tensor:
    """BYOL's loss of predictions and targets, both (B, d)."""
    return 2 - 2 * functional.cosine_similarity(p, z.detach()).mean()
