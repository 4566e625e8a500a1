"""NegativeCosineSimilarity: the loss of SimSiam, and of BYOL up to a constant."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sslfast.errors import UserError
from sslfast.losses.inputs import check_between
from sslfast.ops.checks import at_least_float32, check_embeddings


class NegativeCosineSimilarity(nn.Module):
    """Mean of -cos(x0, x1); drop-in for lightly's class of this name. The stop-gradient is the caller's `.detach()`.

    Args:
        dim: dimension of the vectors.
        eps: smallest length of a vector, 0 or more; shorter ones are divided by it.

    Raises:
        UserError: a dimension that is no whole number, or an eps below 0.

    Source: Chen and He 2021 (SimSiam), equation 1.
    """

    def __init__(self, dim: int = 1, eps: float = 1e-8):
        super().__init__()
        if not isinstance(dim, int):
            raise UserError(f"NegativeCosineSimilarity: dim is {dim!r}; it must be a whole number")
        check_between("NegativeCosineSimilarity", 0, math.inf, eps=eps)
        self.dim = dim
        self.eps = eps

    def forward(self, x0: Tensor, x1: Tensor) -> Tensor:
        """The loss of one batch.

        Args:
            x0: of any shape with dimension `dim`, float32, float64, float16 or bfloat16.
            x1: same shape and dtype.

        Returns:
            Scalar in [-1, 1], float32 (float64 for float64 vectors).

        Raises:
            UserError: tensors that differ in shape, dtype or device, are empty, or have no dimension `dim`.
        """
        check_embeddings("NegativeCosineSimilarity", {"x0": x0, "x1": x1}, dimensions=None)
        if not -x0.dim() <= self.dim < x0.dim():
            raise UserError(
                f"NegativeCosineSimilarity: vectors of shape {tuple(x0.shape)} have no dimension {self.dim}; build the "
                "loss with the dim that their components lie in, -1 for the last"
            )
        x0, x1 = at_least_float32(x0), at_least_float32(x1)
        if x1.requires_grad and not x0.requires_grad:
            x0, x1 = x1, x0
        # The side that is divided as a whole is the one that most often has no gradient.
        opposite = x1 / -torch.linalg.vector_norm(x1, 2, self.dim, True).clamp_min(self.eps)
        length = torch.linalg.vector_norm(x0, 2, self.dim).clamp_min(self.eps)
        return ((x0 * opposite).sum(self.dim) / length).mean()
