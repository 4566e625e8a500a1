"""VICRegLoss: invariance, variance and covariance of two views."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from sslfast.errors import UserError
from sslfast.losses.distributed import gather_rows
from sslfast.losses.inputs import check_between, check_gather, check_positive
from sslfast.ops.checks import at_least_float32, check_embeddings, check_tensors


class VICRegLoss(nn.Module):
    """Variance-invariance-covariance regularisation; drop-in for lightly's class of this name.

        loss = lambda * s(z_a, z_b) + mu * (v(z_a) + v(z_b)) / 2 + nu * (c(z_a) + c(z_b))

    with s the mean squared difference, v the mean over dimensions of max(0, 1 - sqrt(variance + eps)), and c the sum of
    the squared covariances of different dimensions divided by d. The half before the variance is the authors' code's.

    It is computed in float32 at least, under autocast as well. With `gather_distributed` variance and covariance are
    those of all ranks' embeddings; gradients are shared among ranks as in `NTXentLoss`.

    Args:
        lambda_param: weight of the invariance, 0 or more.
        mu_param: weight of the variance, 0 or more.
        nu_param: weight of the covariance, 0 or more.
        gather_distributed: variance and covariance over the embeddings of all ranks.
        eps: added to the variance; above 0, where a constant dimension has no gradient otherwise.

    Raises:
        UserError: a weight below 0, or an eps that is not above 0.

    Source: Bardes et al. 2022 (VICReg), equation 6.
    """

    def __init__(
        self,
        lambda_param: float = 25.0,
        mu_param: float = 25.0,
        nu_param: float = 1.0,
        gather_distributed: bool = False,
        eps: float = 0.0001,
    ):
        super().__init__()
        weights = {"lambda_param": lambda_param, "mu_param": mu_param, "nu_param": nu_param}
        check_between("VICRegLoss", 0, math.inf, **weights)
        check_positive("VICRegLoss", eps=eps)
        check_gather(gather_distributed)
        self.lambda_param = lambda_param
        self.mu_param = mu_param
        self.nu_param = nu_param
        self.gather_distributed = gather_distributed
        self.eps = eps

    def forward(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        """The loss of one batch.

        Args:
            z_a: (B, ..., d) float32, float64, float16 or bfloat16, projections of the first view, B of 2 or more;
                variance and covariance are taken over B, and their terms averaged over the dimensions between.
            z_b: same shape and dtype, projections of the second view.

        Returns:
            Scalar, float32 (float64 for float64 projections).

        Raises:
            UserError: projections that cannot be paired, or a batch of one.
        """
        check_tensors("VICRegLoss", z_a=z_a)
        check_embeddings("VICRegLoss", {"z_a": z_a, "z_b": z_b}, dimensions=max(z_a.dim(), 2))
        if len(z_a) < 2:
            raise UserError("VICRegLoss: a batch of one has no variance; give a batch of at least two")
        with torch.autocast(z_a.device.type, enabled=False):
            z_a, z_b = at_least_float32(z_a), at_least_float32(z_b)
            invariance = functional.mse_loss(z_a, z_b)
            if self.gather_distributed:
                z_a, z_b = gather_rows(z_a), gather_rows(z_b)
            variance = (variance_loss(z_a, self.eps) + variance_loss(z_b, self.eps)) / 2
            covariance = covariance_loss(z_a) + covariance_loss(z_b)
            return self.lambda_param * invariance + self.mu_param * variance + self.nu_param * covariance


def variance_loss(z: Tensor, eps: float = 0.0001) -> Tensor:
    """Mean over the dimensions of z (B, ..., d) of what the standard deviation lacks of 1 (equation 1)."""
    return functional.relu(1 - (z.var(dim=0) + eps).sqrt()).mean()


def covariance_loss(z: Tensor) -> Tensor:
    """Sum of the squared covariances of different dimensions of z (B, ..., d), divided by d (equations 3 and 4)."""
    dim = z.shape[-1]
    centred = (z - z.mean(dim=0)).reshape(len(z), -1, dim).transpose(0, 1)  # (between, B, d)
    covariance = centred.mT @ centred / (len(z) - 1)
    diagonal = torch.eye(dim, dtype=torch.bool, device=z.device)
    return covariance.masked_fill(diagonal, 0).square().sum((1, 2)).mean() / dim
