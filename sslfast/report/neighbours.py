"""Nearest neighbours in feature space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sslfast.data import ImageBatch, ImageFiles
from sslfast.report.images import thumbnail
from sslfast.report.projection import class_name

QUERIES = 8
NEIGHBOURS = 6


@dataclass(frozen=True)
class Neighbour:
    """One image of a row.

    Attributes:
        uri: the image as a data URI.
        name: its class, or "" for unlabelled data.
        similarity: cosine similarity to the query, in [-1, 1].
        right: whether it has the query's class; None where a class is unknown.
    """

    uri: str
    name: str
    similarity: float
    right: bool | None


@dataclass(frozen=True)
class Row:
    """A query image and the images nearest to it, the nearest one first."""

    query: Neighbour
    neighbours: list[Neighbour]


def nearest_rows(
    features: NDArray[np.float32],
    images: ImageBatch | ImageFiles,
    labels: NDArray[np.int64] | None,
    classes: list[str] | None,
) -> list[Row]:
    """Up to QUERIES images with the NEIGHBOURS most similar other images of the same set.

    Args:
        features: (N, D) with rows of length 1.
        images: the N images.
        labels: (N,) classes, -1 where unknown, or None.
        classes: names of the classes.
    """
    queries = choose_queries(labels, len(features))
    similarity = features[queries] @ features.T
    similarity[np.arange(len(queries)), queries] = -np.inf  # an image is no neighbour of its own
    count = min(NEIGHBOURS, len(features) - 1)
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :count]

    def show(position: int, cosine: float, query: int) -> Neighbour:
        known = labels is not None and labels[position] >= 0 and labels[query] >= 0
        return Neighbour(
            uri=thumbnail(images.image(position)),
            name=class_name(int(labels[position]), classes) if labels is not None else "",
            similarity=cosine,
            right=bool(labels[position] == labels[query]) if known and labels is not None else None,
        )

    return [
        Row(
            query=show(int(query), 1.0, int(query)),
            neighbours=[show(int(p), float(similarity[row, p]), int(query)) for p in order[row]],
        )
        for row, query in enumerate(queries)
    ]


def choose_queries(labels: NDArray[np.int64] | None, count: int) -> NDArray[np.int64]:
    """Positions of the query images: the first of each class, then the second, so that classes vary."""
    if labels is None:
        turn = np.zeros(count, dtype=np.int64)
    else:
        turn = np.empty(count, dtype=np.int64)
        for label in np.unique(labels):
            members = np.flatnonzero(labels == label)
            turn[members] = np.arange(len(members))
    # In a class the order is the data's; images of the same turn are ordered by class.
    second = labels if labels is not None else np.arange(count)
    return np.lexsort((second, turn))[:QUERIES]


def share_right(rows: list[Row]) -> tuple[int, int]:
    """Neighbours of the query's class, and neighbours whose class is known."""
    known = [neighbour.right for row in rows for neighbour in row.neighbours if neighbour.right is not None]
    return sum(known), len(known)
