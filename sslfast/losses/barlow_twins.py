"""BarlowTwinsLoss: the cross-correlation of two views shall be the identity."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from sslfast.errors import UserError
from sslfast.losses.distributed import world_size
from sslfast.losses.inputs import check_between, check_gather
from sslfast.ops.checks import at_least_float32, check_embeddings


class BarlowTwinsLoss(nn.Module):
    """Redundancy reduction; drop-in for lightly's class of this name.

    With C the (d, d) cross-correlation of the views, each standardised over the rank's batch (variance + 1e-5),

        loss = sum over i of (1 - C_ii)^2 + lambda * sum over i != j of C_ij^2

    It is computed in float32 at least, under autocast as well. With `gather_distributed` C is the mean over the ranks;
    gradients are shared among ranks as in `NTXentLoss`.

    Args:
        lambda_param: weight of the redundancy reduction, 0 or more.
        gather_distributed: average the cross-correlation over all ranks.

    Raises:
        UserError: a weight below 0, or none at all.

    Source: Zbontar et al. 2021 (Barlow Twins), equation 1.
    """

    def __init__(self, lambda_param: float = 5e-3, gather_distributed: bool = False):
        super().__init__()
        check_between("BarlowTwinsLoss", 0, math.inf, lambda_param=lambda_param)
        check_gather(gather_distributed)
        self.lambda_param = lambda_param
        self.gather_distributed = gather_distributed

    def forward(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        """The loss of one batch.

        Args:
            z_a: (B, d) float32, float64, float16 or bfloat16, projections of the first view, B of 2 or more.
            z_b: (B, d) same dtype, projections of the second view.

        Returns:
            Scalar, float32 (float64 for float64 projections).

        Raises:
            UserError: projections that cannot be paired, or a batch of one.
        """
        check_embeddings("BarlowTwinsLoss", {"z_a": z_a, "z_b": z_b})
        if len(z_a) < 2:
            raise UserError("BarlowTwinsLoss: a batch of one has no variance; give a batch of at least two")
        with torch.autocast(z_a.device.type, enabled=False):
            correlation = standardised(z_a).T @ standardised(z_b) / len(z_a)
            if self.gather_distributed and world_size() > 1:
                from torch.distributed.nn.functional import all_reduce  # not every torch has it

                correlation = all_reduce(correlation / world_size())
            diagonal = correlation.diagonal()
            invariance = (1 - diagonal).square().sum()
            redundancy = correlation.square().sum() - diagonal.square().sum()
            return invariance + self.lambda_param * redundancy


def standardised(z: Tensor) -> Tensor:
    """Columns of z (B, d) with mean 0 and variance 1 over the batch, in float32 or float64."""
    return functional.batch_norm(at_least_float32(z), None, None, training=True)
