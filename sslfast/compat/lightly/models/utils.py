"""lightly's helpers for momentum encoders (`lightly.models.utils`)."""

from __future__ import annotations

from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["activate_requires_grad", "deactivate_requires_grad", "update_momentum"]


def activate_requires_grad(model: nn.Module) -> None:
    """Lets gradients train all parameters of `model`."""
    model.requires_grad_(True)


def deactivate_requires_grad(model: nn.Module) -> None:
    """Keeps gradients from all parameters of `model`."""
    model.requires_grad_(False)


def update_momentum(model: nn.Module, model_ema: nn.Module, m: float) -> None:
    """Moves every parameter of `model_ema` to m * its value + (1 - m) * that of `model`.

    Args:
        model: the encoder that gradients train.
        model_ema: its momentum encoder, of the same layers.
        m: in [0, 1].
    """
    get_ema_multi_avg_fn(m)(list(model_ema.parameters()), list(model.parameters()), 0)
