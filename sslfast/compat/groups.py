"""Positives by label: the similarities within each class, without the N x N matrix."""

from __future__ import annotations

import torch
from torch import Tensor


def positive_similarities(rows: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Similarity of each row to the others of its label.

    Only rows of one label meet, a class at a time: the work and memory are O(N E) with E the size of the largest class.

    Args:
        rows: (N, d) float32 or float64.
        labels: (N,) whole numbers.

    Returns:
        similarities (N, E), differentiable by the rows, 0 where there is no positive.
        positive (N, E) bool, where there is one; a row is no positive of itself.
        members (N, E) int64, the rows of the same label, itself included; -1 fills up.
    """
    _, classes, sizes = labels.unique(return_inverse=True, return_counts=True)
    order = classes.argsort(stable=True)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device) - (sizes.cumsum(0) - sizes)[classes[order]]
    table = order.new_full((len(sizes), int(sizes.max())), -1)
    table[classes, place] = torch.arange(len(order), device=order.device)
    blocks = rows[table.clamp_min(0)]  # (classes, E, d)
    with torch.autocast(rows.device.type, enabled=False):
        similarities = (blocks @ blocks.mT)[classes, place]
    members = table[classes]
    itself = torch.arange(len(order), device=order.device)[:, None]
    positive = (members >= 0) & (members != itself)
    return torch.where(positive, similarities, 0), positive, members
