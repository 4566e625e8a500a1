"""knn and kmeans_assign with the whole matrix, sorted."""

from __future__ import annotations

from torch import Tensor


def knn(queries: Tensor, keys: Tensor, k: int, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Same arguments and results as `sslfast.ops.knn`, in the queries' own dtype; bias (M,) is added to products."""
    products = queries @ keys.T
    similarities, positions = (products if bias is None else products + bias).sort(dim=1, descending=True, stable=True)
    return similarities[:, :k], positions[:, :k]


def kmeans_assign(points: Tensor, centroids: Tensor, metric: str = "euclidean") -> tuple[Tensor, Tensor]:
    """Same arguments and results as `sslfast.ops.kmeans_assign`, in the points' own dtype."""
    if metric == "dot":
        similarities, positions = knn(points, centroids, 1)
        return positions[:, 0], similarities[:, 0]
    distances, positions = (points[:, None] - centroids).square().sum(2).sort(dim=1, stable=True)
    return positions[:, 0], distances[:, 0]
