"""Optimisers by name, and what each of them decays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from timm.optim import Lars

from sslfast.errors import UserError
from sslfast.methods.base import Parameters
from sslfast.train.config import TrainConfig

TRUST_COEFFICIENT = 0.001  # LARS (You et al. 2017), section 5
DECAY_WEIGHTS_ALONE = ("lars", "adamw")


def build_optimizer(config: TrainConfig, parameters: Parameters) -> torch.optim.Optimizer:
    """The optimiser a resolved configuration names, over the parameters that train.

    SGD and Adam decay every parameter, as in the code of MoCo, SupCon, RotNet and SimSiam (Chen and He 2021, appendix
    A, which says so). Under LARS, biases and the scales of normalisation, which are the parameters of at most one
    dimension, are neither decayed nor adapted (SimCLR, Chen et al. 2020, appendix B.1; BYOL, Grill et al. 2020, section
    3.3), and AdamW does not decay them either, as is usual for it.

    LARS is equation 6 of You et al. 2017: the trust ratio divides by ||gradient|| + decay ||weight||, where SimCLR's
    code has the norm of their sum; and the learning rate multiplies what the momentum has gathered, as in torch's SGD.

    Args:
        config: resolved.
        parameters: of a player, see `Method.players`: parameters, or groups of them with settings of their own.

    Raises:
        UserError: no parameter trains.
    """
    groups = [group for given in _groups(parameters) for group in _by_decay(given, config)]
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


def _by_decay(group: dict[str, Any], config: TrainConfig) -> list[dict[str, Any]]:
    """The parameters of a group that train, the weights apart from biases and scales; none is empty."""
    trained = [parameter for parameter in group["params"] if parameter.requires_grad]
    weights = [parameter for parameter in trained if parameter.dim() > 1]
    others = [parameter for parameter in trained if parameter.dim() <= 1]
    decay_of_others = 0.0 if config.optimizer in DECAY_WEIGHTS_ALONE else config.weight_decay
    parts = [
        {**group, "params": weights, "weight_decay": config.weight_decay},
        {**group, "params": others, "weight_decay": decay_of_others},
    ]
    return [part for part in parts if part["params"]]
