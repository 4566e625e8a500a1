"""Optimisers by name, with weight decay on weights alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from timm.optim import Lars

from sslfast.errors import UserError
from sslfast.methods.base import Parameters
from sslfast.train.config import TrainConfig

TRUST_COEFFICIENT = 0.001  # LARS (You et al. 2017), section 5


def build_optimizer(config: TrainConfig, parameters: Parameters) -> torch.optim.Optimizer:
    """The optimiser a resolved configuration names, over the parameters that train.

    Biases and the scales of normalisation, which are the parameters of at most one dimension, are neither decayed nor,
    under LARS, adapted (SimCLR, Chen et al. 2020, appendix B.1).

    Args:
        config: resolved.
        parameters: of a player, see `Method.players`: parameters, or groups of them with settings of their own.

    Raises:
        UserError: no parameter trains.
    """
    groups = [group for given in _groups(parameters) for group in _by_decay(given, config.weight_decay)]
    if not groups:
        raise UserError(f"method {config.method!r} has no parameter that trains; return some from its players()")
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum)
    if config.optimizer == "adam":
        return torch.optim.Adam(groups, lr=config.learning_rate)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate)
    for group in groups:
        # timm adapts a group when it is decayed or told so: weights adapt without weight decay too.
        group["always_adapt"] = group["params"][0].dim() > 1
    return Lars(groups, lr=config.learning_rate, momentum=config.momentum, trust_coeff=TRUST_COEFFICIENT)


def _groups(parameters: Parameters) -> list[dict[str, Any]]:
    """Parameter groups as torch has them, from parameters or groups."""
    given = list(parameters)
    groups = [dict(entry) for entry in given if isinstance(entry, Mapping)]
    return groups or [{"params": given}]


def _by_decay(group: dict[str, Any], weight_decay: float) -> list[dict[str, Any]]:
    """The parameters of a group that train, the weights apart from those that are not decayed; none is empty."""
    trained = [parameter for parameter in group["params"] if parameter.requires_grad]
    weights = [parameter for parameter in trained if parameter.dim() > 1]
    others = [parameter for parameter in trained if parameter.dim() <= 1]
    parts = [
        {**group, "params": weights, "weight_decay": weight_decay},
        {**group, "params": others, "weight_decay": 0.0},
    ]
    return [part for part in parts if part["params"]]
