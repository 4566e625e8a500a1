"""Which labels a protocol may use: stratified subsets, by fraction or by number of samples per class."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

from sslfast.data import ImageBatch, ImageFiles
from sslfast.errors import UserError

Images = TypeVar("Images", ImageBatch, ImageFiles)


def labelled(images: Images, what: str) -> Images:
    """The images whose label is known.

    Raises:
        UserError: none is, or all are of one class.
    """
    known = images.label >= 0 if images.label is not None else torch.zeros(len(images), dtype=torch.bool)
    if not known.any():
        raise UserError(
            f"the {what} images have no labels, and every protocol needs some; "
            "evaluate on labelled data (for a folder: two or more sub-folders, one a class)"
        )
    images = images if known.all() else images.select(known.nonzero()[:, 0])
    assert images.label is not None
    if images.label.unique().numel() < 2:
        raise UserError(
            f"the {what} images are all of class {int(images.label[0])}; classification needs two classes or more"
        )
    return images


def label_subset(
    labels: Tensor, fraction: float | None = None, samples_per_class: int | None = None, seed: int = 0
) -> Tensor:
    """Positions of a stratified subset, the same on every machine; for one seed, smaller subsets lie in larger ones.

    Args:
        labels: (N,) int64 classes, 0 or more.
        fraction: part of every class to keep, in (0, 1]; rounded to whole images, at least one a class.
        samples_per_class: images of every class to keep; give this or `fraction`.
        seed: which images are drawn.

    Returns:
        (n,) int64 positions in ascending order, on the device of `labels`.

    Raises:
        UserError: a value out of range, or a class with fewer images than `samples_per_class`.
    """
    check_budget(fraction, samples_per_class)
    # One permutation ranks the images, however many are kept: so smaller subsets lie in larger ones.
    order = torch.randperm(labels.numel(), generator=torch.Generator().manual_seed(seed))
    shuffled = labels.cpu()[order]
    kept = []
    for label in shuffled.unique().tolist():
        members = order[shuffled == label]
        if samples_per_class is None:
            assert fraction is not None
            count = max(1, int(fraction * members.numel() + 0.5))
        elif samples_per_class > members.numel():
            raise UserError(
                f"{samples_per_class} samples per class, but class {label} has {members.numel()} training images; "
                f"give {members.numel()} or fewer"
            )
        else:
            count = samples_per_class
        kept.append(members[:count])
    return torch.cat(kept).sort().values.to(labels.device)


def check_budget(fraction: float | None, samples_per_class: int | None) -> None:
    """Raises UserError unless one of the two is given and within its range."""
    if (fraction is None) == (samples_per_class is None):
        raise UserError("give either a label fraction or a number of samples per class")
    if fraction is not None and not 0.0 < fraction <= 1.0:
        raise UserError(f"label fraction {fraction:g} is outside (0, 1]; 0.01 is one percent of the labels")
    if samples_per_class is not None and samples_per_class < 1:
        raise UserError(f"{samples_per_class} samples per class; give 1 or more")
