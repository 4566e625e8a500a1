"""Optimisers by name, with weight decay on weights alone."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from timm.optim import Lars
from torch import nn

from sslfast.errors import UserError
from sslfast.train.config import TrainConfig

TRUST_COEFFICIENT = 0.001  # LARS (You et al. 2017), section 5


def build_optimizer(config: TrainConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser a resolved configuration names, over the parameters that train.

    Biases and the scales of normalisation, which are the parameters of at most one dimension, are neither decayed nor,
    under LARS, adapted (SimCLR, Chen et al. 2020, appendix B.1).

    Raises:
        UserError: no parameter trains.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        raise UserError(f"method {config.method!r} has no parameter that trains; return some from its players()")
    weights = [parameter for parameter in trained if parameter.dim() > 1]
    others = [parameter for parameter in trained if parameter.dim() <= 1]
    groups = [
        {"params": weights, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum)
    if config.optimizer == "adam":
        return torch.optim.Adam(groups, lr=config.learning_rate)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate)
    for group in groups:
        # timm adapts a group when it is decayed or told so: weights adapt without weight decay too.
        group["always_adapt"] = group["params"] is weights
    return Lars(groups, lr=config.learning_rate, momentum=config.momentum, trust_coeff=TRUST_COEFFICIENT)
