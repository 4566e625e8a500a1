"""MomentumEncoder: a slow copy of an encoder, which no gradient trains."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from sslfast.errors import UserError


class MomentumEncoder(nn.Module):
    """A copy of an encoder whose parameters follow the encoder's as an exponential moving average.

    It starts equal to the encoder. Its parameters require no gradient, so optimisers pass them over. Its batch norms
    normalise by the batches it sees and keep running statistics of their own, as in the authors' code of MoCo and BYOL.

        self.target = MomentumEncoder(self.backbone, self.projector, momentum=0.996, cosine=True)
        self.target(images)              # in forward
        self.target.update(step, steps)  # in after_step

    Args:
        *modules: of the encoder, applied one after the other.
        momentum: in [0, 1]; the part of the old value that an update keeps.
        cosine: whether the momentum grows to 1 along half a cosine over the training.

    Raises:
        UserError: a momentum outside [0, 1].

    Source: He et al. 2020 (MoCo), equation 2; Grill et al. 2020 (BYOL), equation 1 and, for the cosine, section 3.3.
    """

    def __init__(self, *modules: nn.Module, momentum: float, cosine: bool = False) -> None:
        super().__init__()
        if not 0.0 <= momentum <= 1.0:
            raise UserError(
                f"momentum of the momentum encoder is {momentum!r}; it must be in [0, 1], usually 0.99 to 1"
            )
        self.layers = nn.Sequential(*(copy.deepcopy(module) for module in modules)).requires_grad_(False)
        self.momentum = momentum
        self.cosine = cosine
        # In a tuple, the encoder's modules are no submodules: they stand once in the method's state dictionary.
        self._followed = modules

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """What the encoder's modules return, without gradient."""
        return self.layers(images)

    def update(self, step: int, steps: int) -> None:
        """Moves every parameter to momentum * its value + (1 - momentum) * the encoder's.

        Args:
            step: the optimiser step that has just been made, from 1.
            steps: of the whole training.
        """
        followed = [parameter for module in self._followed for parameter in module.parameters()]
        get_ema_multi_avg_fn(self.momentum_at(step, steps))(list(self.parameters()), followed, 0)

    def momentum_at(self, step: int, steps: int) -> float:
        """The momentum of the update after step `step` of `steps`."""
        if not self.cosine:
            return self.momentum
        done = min(1.0, (step - 1) / steps)
        return 1.0 - (1.0 - self.momentum) * (math.cos(math.pi * done) + 1.0) / 2.0
