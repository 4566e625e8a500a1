"""What the protocols that train with mini-batches share: how long, on which views, and when it has failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import torch
from torch import Tensor

from sslfast.augment import MultiView, ViewSpec, presets
from sslfast.data import build_loader
from sslfast.errors import TrainingError, UserError
from sslfast.evaluate.features import Encoder, known_labels

EPOCHS = 50


def training_steps(
    images: int, batch_size: int, learning_rate: float, epochs: int | None, fewest: int, most: int
) -> tuple[int, int]:
    """Images in a batch, and optimiser steps.

    Args:
        images: how many there are to train on; a batch is no larger than this.
        batch_size: images in a batch.
        learning_rate: only checked.
        epochs: passes over the images, exactly; None makes 50, but at least `fewest` and at most `most` steps.
        fewest, most: bounds on the steps without `epochs`.

    Raises:
        UserError: a value that is not positive, or bounds in the wrong order.
    """
    if batch_size < 1:
        raise UserError(f"evaluation with a batch size of {batch_size}; give 1 or more")
    if not learning_rate > 0.0:
        raise UserError(f"evaluation with a learning rate of {learning_rate:g}; give a number above 0")
    if epochs is not None and epochs < 1:
        raise UserError(f"evaluation with {epochs} epochs; give 1 or more")
    if not 1 <= fewest <= most:
        raise UserError(f"evaluation with at least {fewest} and at most {most} steps; give 1 <= fewest <= most")
    batch_size = min(batch_size, images)
    steps_an_epoch = images // batch_size
    if epochs is not None:
        return batch_size, epochs * steps_an_epoch
    return batch_size, min(max(EPOCHS * steps_an_epoch, fewest), most)


def training_batches(
    encoder: Encoder, subset: Tensor, batch_size: int, steps: int, seed: int, augmentation: bool
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Batches to train on, one a step, epoch after epoch; what the last batch of an epoch lacks is left out.

    Args:
        encoder: gives the training images and their view.
        subset: (n,) int64 positions of those to train on.
        batch_size: images in a batch, at most n.
        steps: number of batches.
        seed: of the order of the images and of the augmentation.
        augmentation: draw `training_view` instead of the test view.

    Yields:
        The epoch, from 0; views, (B, C, H, W) float32; labels, (B,) int64.
    """
    loader = build_loader(encoder.train.select(subset), batch_size, seed=seed, device=encoder.device)
    draw = MultiView([training_view(encoder.view) if augmentation else encoder.view], seed)
    for epoch in range(-(-steps // len(loader))):
        for batch in islice(loader.epoch(epoch), steps - epoch * len(loader)):
            yield epoch, draw(batch, epoch).tensors[0], known_labels(batch)


@contextmanager
def seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seeds torch's generators, also that of `device`; the caller's random streams go on undisturbed afterwards."""
    device = torch.device(device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def training_view(view: ViewSpec) -> ViewSpec:
    """The preset "supervised" with the size and the normalisation of `view`."""
    light = presets.supervised(min(view.shape))[0]
    return light.replace(size=view.size, mean=view.mean, std=view.std)


def check_converged(scores: Tensor, what: str, steps: int, learning_rate: float) -> None:
    """Raises TrainingError where scores of classes, (M, classes), are not finite after training."""
    if not torch.isfinite(scores).all():
        raise TrainingError(f"{what} diverged within {steps} steps; use a learning rate below {learning_rate:g}")
