"""Weighted k-nearest-neighbour classification of frozen features."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from sslfast.errors import UserError
from sslfast.evaluate.features import Encoder
from sslfast.evaluate.results import Scores, accuracy, ranks
from sslfast.ops import knn

QUERIES = 1024  # test images whose votes are counted at a time


def evaluate_knn(
    encoder: Encoder,
    subset: Tensor,
    neighbours: int = 200,
    temperature: float = 0.1,
    tile_bytes: int = 2**26,
) -> Scores:
    """A test image takes the class with the largest vote of its k nearest training images (Wu et al. 2018, sec. 3.4).

    A neighbour of cosine similarity s votes for its class with weight exp(s / temperature). The paper votes with the
    temperature it trained with, 0.07 on ImageNet; 0.1 is that of the kNN monitor in MoCo's CIFAR-10 notebook.

    Args:
        encoder: gives the pooled features.
        subset: (n,) int64 positions of the training images that serve as neighbours.
        neighbours: k; the whole subset when it is smaller.
        temperature: of the votes.
        tile_bytes: largest tile of similarities that a GPU has in memory at a time; it does not change the result.

    Raises:
        UserError: k, the temperature or the tile is not positive.
    """
    if neighbours < 1:
        raise UserError(f"k-nearest neighbours with k = {neighbours}; give 1 or more (200 in the paper)")
    if not temperature > 0.0:
        raise UserError(f"kNN temperature {temperature:g}; give a number above 0 (0.1 by default)")
    train, test = encoder.pooled
    bank, labels = functional.normalize(train[subset], dim=1), encoder.train_labels[subset]
    placed = []
    for queries, truth in zip(test.split(QUERIES), encoder.test_labels.split(QUERIES), strict=True):
        similarity, nearest = knn(functional.normalize(queries, dim=1), bank, min(neighbours, len(bank)), tile_bytes)
        # Only the ratio of votes matters: measured from the nearest one, no weight overflows. float64 sums leave no
        # ties to the order of summation.
        weights = ((similarity - similarity[:, :1]).double() / temperature).exp()
        votes = weights.new_zeros(queries.shape[0], encoder.classes).scatter_add_(1, labels[nearest], weights)
        placed.append(ranks(votes, truth))
    return accuracy(torch.cat(placed))
