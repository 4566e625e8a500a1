"""Nearest neighbours and k-means assignment of features in memory, beside faiss's exact search and dense PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.run import Case, Setup
from sslfast.ops import kmeans_assign, knn

Call = Callable[[], object]


def cases(setup: Setup) -> Iterator[Case]:
    """The kNN protocol's search over CIFAR-10's training images, NNCLR's in its queue, and a step of k-means."""
    scale = 16 if setup.device == "cuda" else 1
    for k in (1, 20, 200):
        yield _search(setup, 512 * scale, 50_000, 512, k)
    yield _search(setup, 512 * scale, 65_536, 256, 1)
    yield _assignment(setup, 8192 * scale, 1000, 128)


def _search(setup: Setup, queries: int, keys: int, depth: int, k: int) -> Case:
    rows, columns = _unit(queries, depth, 0, setup), _unit(keys, depth, 1, setup)
    contenders: dict[str, Callable[[], Call]] = {
        "sslfast": lambda: lambda: knn(rows, columns, k),
        "pytorch": lambda: lambda: (rows @ columns.T).topk(k, dim=1),
    }
    if setup.device == "cpu":
        contenders["faiss"] = lambda: _faiss(rows, columns, k, setup)
    return Case(
        op="knn",
        name=f"{queries} queries, {keys} keys, dimension {depth}, k = {k}",
        unit="queries",
        count=queries,
        contenders=contenders,
        least_flops=2.0 * queries * keys * depth,
        settings={"queries": queries, "keys": keys, "dimension": depth, "k": k},
    )


def _assignment(setup: Setup, points: int, clusters: int, depth: int) -> Case:
    rows, centroids = _unit(points, depth, 0, setup), _unit(clusters, depth, 1, setup)
    contenders: dict[str, Callable[[], Call]] = {
        "sslfast": lambda: lambda: kmeans_assign(rows, centroids),
        "pytorch": lambda: lambda: torch.cdist(rows, centroids).min(1),
    }
    if setup.device == "cpu":
        contenders["faiss"] = lambda: _faiss(rows, centroids, 1, setup, euclidean=True)
    return Case(
        op="kmeans_assign",
        name=f"{points} points, {clusters} centroids, dimension {depth}, euclidean",
        unit="points",
        count=points,
        contenders=contenders,
        least_flops=2.0 * points * clusters * depth,
        settings={"points": points, "clusters": clusters, "dimension": depth},
    )


def _unit(count: int, depth: int, seed: int, setup: Setup) -> Tensor:
    rows = torch.randn(count, depth, generator=torch.Generator().manual_seed(seed))
    return functional.normalize(rows, dim=1).to(setup.device)


def _faiss(rows: Tensor, columns: Tensor, k: int, setup: Setup, euclidean: bool = False) -> Call:
    import faiss

    faiss.omp_set_num_threads(setup.threads)
    queries, keys = rows.numpy(), columns.numpy()
    metric = faiss.METRIC_L2 if euclidean else faiss.METRIC_INNER_PRODUCT
    return lambda: faiss.knn(queries, keys, k, metric=metric)
