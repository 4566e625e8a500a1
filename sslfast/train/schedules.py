"""Learning-rate schedules by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from sslfast.train.config import TrainConfig

PLATEAU_EPOCHS = 5
DROP = 0.1  # factor of the learning rate at a milestone or on a plateau


class Schedule:
    """The learning rate of one optimiser: per epoch for plateau, per step for all others.

    A parameter group with "constant_learning_rate" keeps its own from the first step to the last.

    Args:
        config: a resolved configuration.
        optimizer: whose learning rate is set.
        steps_per_epoch: optimiser steps of an epoch.
    """

    def __init__(self, config: TrainConfig, optimizer: Optimizer, steps_per_epoch: int) -> None:
        warmup = round(config.warmup_epochs * steps_per_epoch)
        steps = config.epochs * steps_per_epoch
        self._per_epoch: ReduceLROnPlateau | None = None
        self._per_step: LambdaLR | None = None
        constant = [group.get("constant_learning_rate", False) for group in optimizer.param_groups]
        if config.schedule == "plateau":
            # torch lowers the rate at the epoch after `patience` ones without improvement.
            self._per_epoch = ReduceLROnPlateau(
                optimizer,
                factor=DROP,
                patience=PLATEAU_EPOCHS - 1,
                threshold=0.0,
                min_lr=[config.learning_rate if fixed else 0.0 for fixed in constant],
            )
            return
        factors: dict[str, Callable[[int], float]] = {
            "cosine": lambda step: cosine(step, steps, warmup),
            "step": lambda step: drops(step, [round(epoch * steps_per_epoch) for epoch in config.milestones], warmup),
            "exponential": lambda step: exponential(step, steps_per_epoch, warmup),
            "constant": lambda step: linear_warmup(step, warmup),
        }
        factor = factors[config.schedule]
        self._per_step = LambdaLR(optimizer, [(lambda step: 1.0) if fixed else factor for fixed in constant])

    def after_step(self) -> None:
        """Moves on by one optimiser step."""
        if self._per_step is not None:
            self._per_step.step()

    def after_epoch(self, loss: float) -> None:
        """Moves on by one epoch, whose mean loss was `loss`."""
        if self._per_epoch is not None:
            self._per_epoch.step(loss)

    def state_dict(self) -> dict:
        """Numbers to continue from."""
        scheduler = self._per_epoch or self._per_step
        assert scheduler is not None
        return scheduler.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Continues from `state_dict`'s numbers."""
        scheduler = self._per_epoch or self._per_step
        assert scheduler is not None
        scheduler.load_state_dict(state)


def linear_warmup(step: int, warmup: int) -> float:
    """Factor of the learning rate at `step` (from 0): reaches 1 at the last of the `warmup` steps."""
    return min(1.0, (step + 1) / warmup) if warmup else 1.0


def drops(step: int, milestones: Sequence[int], warmup: int = 0) -> float:
    """Factor of the learning rate at `step`: linear warm-up, then a tenth from each of the milestones on, in steps."""
    return linear_warmup(step, warmup) * DROP ** sum(step >= milestone for milestone in milestones)


def cosine(step: int, steps: int, warmup: int = 0) -> float:
    """Factor of the learning rate at `step` of `steps`: linear warm-up, then half a cosine to 0 (SGDR 2017, eq. 5)."""
    if step < warmup:
        return linear_warmup(step, warmup)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))


def exponential(step: int, steps_per_epoch: int, warmup: int = 0) -> float:
    """Factor of the learning rate at `step`: linear warm-up, and a tenth of it after every epoch."""
    return linear_warmup(step, warmup) * DROP ** (step // steps_per_epoch)
