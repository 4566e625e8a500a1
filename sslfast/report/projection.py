"""PCA and t-SNE of features, coloured by class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from sslfast.report import plots

LARGEST_SHOWN = plots.SERIES  # of more classes than MAX_GROUPS, the largest ones that get a colour
PERPLEXITY = 30.0


@dataclass(frozen=True)
class Key:
    """One entry of the legend.

    Attributes:
        name: the class.
        group: number of its colour and marker, or -1 for the neutral colour.
        marker: "o", "s" or "^".
    """

    name: str
    group: int
    marker: str


@dataclass(frozen=True)
class Projection:
    """Features in the plane.

    Attributes:
        pca, tsne: the two plots.
        explained: percent of the variance that the two axes of the PCA keep.
        legend: the classes; empty for unlabelled data.
        count: number of points.
    """

    pca: Markup
    tsne: Markup
    explained: float
    legend: list[Key]
    count: int


def project(features: NDArray[np.float32], labels: NDArray[np.int64] | None, classes: list[str] | None) -> Projection:
    """PCA and t-SNE of features of length 1.

    Args:
        features: (N, D), five rows or more, of length 1 and not all the same.
        labels: (N,) classes, -1 where unknown, or None.
        classes: names of the classes; numbers stand for them when absent.
    """
    groups, legend = group_classes(labels, classes, len(features))
    pca = PCA(n_components=2, random_state=0)
    plane = pca.fit_transform(features)
    explained = 100 * float(pca.explained_variance_ratio_.sum())
    # t-SNE keeps the neighbourhoods that the leading components hold, and is several times faster from them.
    reduced = PCA(n_components=min(50, *features.shape), random_state=0).fit_transform(features)
    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", learning_rate="auto", random_state=0).fit_transform(reduced)
    about = f"{len(features)} images" + (f" of {len(legend)} classes" if legend else "")
    return Projection(
        pca=plots.scatter(plane, groups, alt=f"PCA of the features of {about}"),
        tsne=plots.scatter(tsne, groups, alt=f"t-SNE of the features of {about}"),
        explained=explained,
        legend=legend,
        count=len(features),
    )


def group_classes(
    labels: NDArray[np.int64] | None, classes: list[str] | None, count: int
) -> tuple[NDArray[np.int64], list[Key]]:
    """A colour and marker for every class: all of them up to MAX_GROUPS, the largest LARGEST_SHOWN of more.

    Returns:
        (N,) group of every image, -1 for the neutral colour; and the legend.
    """
    groups = np.full(count, -1, dtype=np.int64)
    if labels is None:
        return groups, []
    present, sizes = np.unique(labels[labels >= 0], return_counts=True)
    shown = present
    if len(present) > plots.MAX_GROUPS:
        shown = np.sort(present[np.argsort(-sizes, kind="stable")[:LARGEST_SHOWN]])
    legend = []
    for group, label in enumerate(shown):
        groups[labels == label] = group
        legend.append(Key(class_name(int(label), classes), group, plots.marker(group)))
    if (groups < 0).any() and legend:
        hidden = len(present) - len(shown)
        name = f"{hidden} other classes" if hidden else "class unknown"
        legend.append(Key(name, -1, plots.marker(-1)))
    return groups, legend


def class_name(label: int, classes: list[str] | None) -> str:
    """The name of a class, its number when it has none, or a word for an unknown one."""
    if label < 0:
        return "class unknown"
    return classes[label] if classes is not None and label < len(classes) else f"class {label}"
