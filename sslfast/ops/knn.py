"""knn, kmeans_assign: the most similar keys and the nearest centroid, without the whole matrix of similarities.

The CPU has a kernel of its own (`torch.ops.sslfast.knn`); elsewhere torch multiplies and selects, a tile at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from sslfast.errors import UserError
from sslfast.ops.checks import at_least_float32, check_embeddings

QUERIES = 1024  # rows of a tile of similarities
POINTS = 4096  # whose distances are computed at a time
TILE_BYTES = 1 << 26


@torch.no_grad()
def knn(queries: Tensor, keys: Tensor, k: int, tile_bytes: int = TILE_BYTES) -> tuple[Tensor, Tensor]:
    """The k keys most similar to each query, by dot product: by cosine where the rows have length 1.

    Similarities are computed a tile at a time, in float32 at least, under autocast as well, and without gradient. Of
    keys that are equally similar, those that come first are taken, and stand first. Memory beyond inputs and result is
    a few tiles, and as much as the result. On the CPU two runs give equal bits, with any number of threads.

    Args:
        queries: (N, d) float32, float64, float16 or bfloat16.
        keys: (M, d) same dtype and device, M of 1 or more.
        k: 1 to M.
        tile_bytes: largest size of the tile of similarities that a GPU has in memory at a time; the CPU's are smaller.

    Returns:
        similarities (N, k), float32 (float64 for float64 queries), in descending order, and positions (N, k) int64 in
        [0, M). NaN counts as larger than all numbers and equal to NaN, so that a query with a NaN in it takes the
        first k keys.

    Raises:
        UserError: queries or keys of another shape, dtype or device, or k or tile_bytes out of its range.
    """
    _check("knn", {"queries": queries, "keys": keys})
    if not 1 <= k <= len(keys):
        raise UserError(f"knn: k is {k} and there are {len(keys)} keys; give k from 1 to {len(keys)}")
    return _most_similar(queries, keys, None, k, tile_bytes)


@torch.no_grad()
def kmeans_assign(
    points: Tensor, centroids: Tensor, metric: str = "euclidean", tile_bytes: int = TILE_BYTES
) -> tuple[Tensor, Tensor]:
    """The centroid of each point: the assignment step of k-means, and of spherical k-means.

    Of centroids that are equally near the first one is taken. Precision and memory are those of `knn`.

    Args:
        points: (N, d) float32, float64, float16 or bfloat16.
        centroids: (K, d) same dtype and device, K of 1 or more.
        metric: "euclidean", the centroid of the smallest squared distance; "dot", of the largest dot product.
        tile_bytes: as of `knn`.

    Returns:
        assignment (N,) int64 in [0, K), and its squared distance or dot product (N,), float32 (float64 for float64
        points). A point with a NaN in it is assigned to the first centroid, with NaN.

    Raises:
        UserError: points or centroids of another shape, dtype or device, a centroid that is not finite, another metric,
            or tile_bytes below 1.

    Source: Lloyd 1982 (Least squares quantization in PCM), section III.
    """
    _check("kmeans_assign", {"points": points, "centroids": centroids})
    finite = centroids.isfinite().all(1)
    if not bool(finite.all()):
        raise UserError(
            f"kmeans_assign: centroid {int(finite.logical_not().nonzero()[0])} is not finite, as the mean of an empty "
            "cluster is; leave it out, or give it a point"
        )
    if metric == "dot":
        similarity, nearest = _most_similar(points, centroids, None, 1, tile_bytes)
        return nearest.squeeze(1), similarity.squeeze(1)
    if metric != "euclidean":
        raise UserError(f"kmeans_assign: unknown metric {metric!r}; valid: 'euclidean', 'dot'")
    centroids = at_least_float32(centroids)
    # Distances do not depend on the origin: in the middle of the centroids the least is lost to rounding.
    origin = centroids.mean(0)
    shifted = centroids - origin
    # -|x - c|^2 / 2 = x . c - |c|^2 / 2 - |x|^2 / 2, the last of which is the same for all centroids.
    bias = shifted.square().sum(1) / -2
    assignments, distances = [], []
    for rows in map(at_least_float32, points.split(POINTS)):
        nearest = _most_similar(rows - origin, shifted, bias, 1, tile_bytes)[1].squeeze(1)
        assignments.append(nearest)
        distances.append((rows - centroids[nearest]).square_().sum(1))
    return torch.cat(assignments), torch.cat(distances)


def _check(op: str, tensors: dict[str, Tensor]) -> None:
    (first, rows), (second, columns) = tensors.items()
    check_embeddings(op, tensors, same_rows=False)
    if rows.shape[1] != columns.shape[1]:
        raise UserError(
            f"{op}: {first} {tuple(rows.shape)} and {second} {tuple(columns.shape)} must have the same second dimension"
        )


def _most_similar(queries: Tensor, keys: Tensor, bias: Tensor | None, k: int, tile_bytes: int) -> tuple[Tensor, Tensor]:
    """The k largest of queries . keys + bias (M,), and their positions."""
    if tile_bytes < 1:
        raise UserError(f"tiles of {tile_bytes} bytes; give 1 or more")
    if queries.device.type in ("cpu", "meta"):
        return torch.ops.sslfast.knn(queries.contiguous(), keys.contiguous(), bias, k)
    return by_products(queries, keys, bias, k, tile_bytes)


def by_products(queries: Tensor, keys: Tensor, bias: Tensor | None, k: int, tile_bytes: int) -> tuple[Tensor, Tensor]:
    """The same by torch's products and topk, on any device, without a matrix of more than `tile_bytes`."""
    with torch.autocast(queries.device.type, enabled=False):
        keys = at_least_float32(keys)
        rows = max(1, min(QUERIES, len(queries), tile_bytes // keys.element_size()))
        columns = max(1, tile_bytes // (keys.element_size() * rows))
        # A tile that stays in the cache is searched sooner, unless few of its columns are left out.
        columns = min(columns, max(1024, 256 * k))
        found = [_merge(_tiles(at_least_float32(part), keys, bias, columns), k) for part in queries.split(rows)]
    values, positions = zip(*found, strict=True)
    return torch.cat(values), torch.cat(positions)


def _tiles(queries: Tensor, keys: Tensor, bias: Tensor | None, columns: int) -> Iterator[Tensor]:
    for begin in range(0, len(keys), columns):
        chunk = keys[begin : begin + columns]
        yield queries @ chunk.T if bias is None else torch.addmm(bias[begin : begin + columns], queries, chunk.T)


def _merge(tiles: Iterator[Tensor], k: int) -> tuple[Tensor, Tensor]:
    """The k largest values of each row over tiles (R, any) that stand side by side, and their columns."""
    best, where, begin = None, None, 0
    for tile in tiles:
        columns = first_largest(tile, min(k, tile.shape[1]))
        values, positions = tile.gather(1, columns), columns + begin
        begin += tile.shape[1]
        if best is None or where is None:
            best, where = values, positions
            continue
        # Both are in the order of their columns, so that the best of both are as well.
        values, positions = torch.cat([best, values], dim=1), torch.cat([where, positions], dim=1)
        chosen = first_largest(values, min(k, values.shape[1]))
        best, where = values.gather(1, chosen), positions.gather(1, chosen)
    assert best is not None and where is not None
    best, order = best.sort(dim=1, descending=True, stable=True)
    return best, where.gather(1, order)


def first_largest(values: Tensor, k: int) -> Tensor:
    """(R, k) int64 columns of the k largest values of each row (R, C), ascending; of equal values the first columns."""
    if k == values.shape[1]:
        return torch.arange(k, device=values.device).expand(len(values), k)
    if k == 1:
        return values.max(dim=1, keepdim=True).indices  # the first one, as torch promises
    # One more than wanted: where it equals the last one, topk has chosen among equals as it liked.
    top, columns = values.topk(k + 1, dim=1)
    last, columns = top[:, k - 1 : k], columns[:, :k]
    if bool(((top[:, k:] == last) | top[:, k:].isnan()).any()):
        # NaN is larger than all numbers and equals itself, as in topk.
        nan, last_nan = values.isnan(), last.isnan()
        larger, equal = (values > last) | (nan & ~last_nan), (values == last) | (nan & last_nan)
        room = k - larger.sum(1, keepdim=True)
        taken = larger | (equal & (equal.cumsum(1) <= room))
        columns = taken.nonzero()[:, 1].view(-1, k)
    return columns.sort(1).values


@torch.library.register_fake("sslfast::knn")
def _(queries: Tensor, keys: Tensor, bias: Tensor | None, k: int) -> tuple[Tensor, Tensor]:
    real = torch.float64 if queries.dtype == torch.float64 else torch.float32
    shape = queries.shape[0], k
    return queries.new_empty(shape, dtype=real), queries.new_empty(shape, dtype=torch.int64)
