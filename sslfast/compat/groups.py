"""Positives by label: the similarities within each class, and no others."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def positive_similarities(rows: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Similarity of each row to the others of its label.

    Only rows of one label meet, in classes of like size at once: the memory is O(N E) with E the size of the largest
    class, whatever the sizes of the others.

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
    largest = table.shape[1]
    _, exponents = torch.frexp(sizes.double())  # sizes below 2, 4, 8, ...
    found, owners = [], []
    for exponent in exponents.unique().tolist():
        block = table[exponents == exponent, : 2**exponent - 1]
        filled = block >= 0
        vectors = rows[block.clamp_min(0)]  # (classes of like size, at most twice the least of them, d)
        with torch.autocast(rows.device.type, enabled=False):
            products = (vectors @ vectors.mT)[filled]
        found.append(functional.pad(products, (0, largest - products.shape[1])))
        owners.append(block[filled])
    similarities = torch.cat(found)[torch.cat(owners).argsort()]
    members = table[classes]
    itself = torch.arange(len(order), device=order.device)[:, None]
    positive = (members >= 0) & (members != itself)
    return torch.where(positive, similarities, 0), positive, members
