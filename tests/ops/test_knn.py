"""knn and kmeans_assign against the whole matrix, sorted; their ties, memory and limits."""

import pytest
import torch

from sslfast.errors import UserError
from sslfast.ops import kmeans_assign, knn
from sslfast.ops.knn import first_largest
from sslfast.ops.reference import knn as reference

TILES = [60, 300, 4000, 1 << 24]


def rows(count, depth=7, seed=0, dtype=torch.float64):
    return torch.randn(count, depth, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def whole_numbers(count, depth=3, seed=0):
    """Products of small whole numbers are exact in every precision, and often equal."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-2, 3, (count, depth), generator=generator).float()


@pytest.mark.parametrize("tile_bytes", TILES)
@pytest.mark.parametrize("k", [1, 2, 9, 50])
@pytest.mark.parametrize("count", [50, 333])
def test_equals_all_pairs(k, count, tile_bytes):
    queries, keys = rows(23), rows(count, seed=1)
    similarities, positions = knn(queries, keys, k, tile_bytes)
    wanted, where = reference.knn(queries, keys, k)
    assert torch.equal(positions, where)
    torch.testing.assert_close(similarities, wanted, rtol=1e-12, atol=1e-12)


def test_more_queries_than_a_tile_has_rows():
    queries, keys = rows(2500, 4), rows(31, 4, seed=1)
    similarities, positions = knn(queries, keys, 3)
    wanted, where = reference.knn(queries, keys, 3)
    assert torch.equal(positions, where)
    torch.testing.assert_close(similarities, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("tile_bytes", TILES)
@pytest.mark.parametrize("k", [1, 2, 9, 60])
def test_of_equal_keys_the_first_ones(k, tile_bytes):
    queries, keys = whole_numbers(40), whole_numbers(200, seed=1)
    values = queries @ keys.T
    assert values[0].unique().numel() < 20
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        similarities, positions = knn(queries.to(dtype), keys.to(dtype), k, tile_bytes)
        wanted, where = reference.knn(queries, keys, k)
        assert torch.equal(positions, where) and torch.equal(similarities.float(), wanted)


def test_first_largest_is_in_order_of_columns():
    values = torch.tensor([[1.0, 5, 3, 5, 3, 3], [2, 2, 2, 2, 2, 2], [-torch.inf, 0, -0.0, -1, torch.inf, -torch.inf]])
    assert first_largest(values, 4).tolist() == [[1, 2, 3, 4], [0, 1, 2, 3], [1, 2, 3, 4]]
    assert first_largest(values, 1).tolist() == [[1], [0], [4]]
    assert first_largest(values, 6).tolist() == [[0, 1, 2, 3, 4, 5]] * 3


def test_nan_counts_as_the_largest():
    values = torch.tensor([[1.0, torch.nan, 3, 3], [3, 3, 3, 3]])
    found = first_largest(values, 2).tolist()
    assert 1 in found[0] and found[1] == [0, 1]
    similarities, positions = knn(torch.ones(1, 1), torch.tensor([[2.0], [torch.nan], [3.0]]), 2)
    assert positions.tolist() == [[1, 2]] and similarities[0, 0].isnan() and similarities[0, 1] == 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_and_autocast_are_float32(dtype):
    queries, keys = rows(9, dtype=dtype), rows(40, seed=1, dtype=dtype)
    exact = knn(queries.float(), keys.float(), 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for found in (knn(queries, keys, 5), knn(queries.float(), keys.float(), 5)):
            assert found[0].dtype == torch.float32 and all(map(torch.equal, found, exact))


def test_no_gradient():
    similarities, _ = knn(rows(3).requires_grad_(), rows(4), 2)
    assert not similarities.requires_grad


def test_the_tile_bounds_every_matrix(monkeypatch):
    sizes = []
    largest = torch.Tensor.topk

    def watched(tensor, *args, **options):
        sizes.append(tensor.numel() * tensor.element_size())
        return largest(tensor, *args, **options)

    monkeypatch.setattr(torch.Tensor, "topk", watched)
    knn(rows(2500, 4, dtype=torch.float32), rows(3000, 4, dtype=torch.float32), 5, tile_bytes=1 << 18)
    assert max(sizes) <= 1 << 18
    assert len(sizes) >= 2 * 2500 * 3000 * 4 // (1 << 18)  # a tile is searched, then merged with the best so far


@pytest.mark.parametrize("metric", ["euclidean", "dot"])
@pytest.mark.parametrize("tile_bytes", TILES)
@pytest.mark.parametrize("clusters", [1, 2, 40])
def test_assignment_equals_all_pairs(metric, tile_bytes, clusters):
    points, centroids = rows(120), rows(clusters, seed=1)
    assignment, value = kmeans_assign(points, centroids, metric, tile_bytes)
    wanted, values = reference.kmeans_assign(points, centroids, metric)
    assert torch.equal(assignment, wanted)
    torch.testing.assert_close(value, values, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("metric", ["euclidean", "dot"])
def test_of_equal_centroids_the_first_one(metric):
    points, centroids = whole_numbers(100), whole_numbers(16, seed=1).repeat(2, 1)
    assignment, value = kmeans_assign(points, centroids, metric)
    wanted, values = reference.kmeans_assign(points, centroids, metric)
    assert torch.equal(assignment, wanted) and torch.equal(value, values) and int(assignment.max()) < 16


def test_points_far_from_the_origin():
    """Distances of 0.1 at lengths of 1e4: |x|^2 - 2 x . c + |c|^2 would leave nothing of them in float32."""
    centroids = 5e3 + 0.1 * rows(30, 4, dtype=torch.float32)
    points = centroids.repeat(20, 1) + 0.01 * rows(600, 4, seed=1, dtype=torch.float32)
    assignment, distances = kmeans_assign(points, centroids)
    wanted, values = reference.kmeans_assign(points.double(), centroids.double())
    assert torch.equal(assignment, wanted)
    torch.testing.assert_close(distances.double(), values, rtol=1e-3, atol=1e-9)


def test_a_point_on_its_centroid_has_distance_zero():
    centroids = rows(5, dtype=torch.float16)
    assignment, distances = kmeans_assign(centroids, centroids)
    assert assignment.tolist() == [0, 1, 2, 3, 4] and distances.count_nonzero() == 0
    assert distances.dtype == torch.float32


def test_steps_of_kmeans_find_the_clusters():
    """Lloyd's algorithm on separate groups, from one point of each, recovers their means."""
    groups = torch.arange(4).repeat(50)
    points = 10 * rows(4, 3)[groups] + 0.1 * rows(200, 3, seed=1)
    centroids = points[:4]
    for _ in range(3):
        assignment, _ = kmeans_assign(points, centroids)
        centroids = torch.stack([points[assignment == group].mean(0) for group in range(4)])
    assert torch.equal(assignment, groups)


@pytest.mark.parametrize(
    ("queries", "keys", "k", "message"),
    [
        (torch.ones(2, 3), torch.ones(4, 3), 0, "k is 0 and there are 4 keys"),
        (torch.ones(2, 3), torch.ones(4, 3), 5, "give k from 1 to 4"),
        (torch.ones(2, 3), torch.ones(4, 2), 1, "second dimension"),
        (torch.ones(2, 3), torch.ones(0, 3), 1, "keys is empty"),
        (torch.ones(0, 3), torch.ones(4, 3), 1, "queries is empty"),
        (torch.ones(3), torch.ones(4, 3), 1, "2 dimensions"),
        (torch.ones(2, 3), torch.ones(4, 3).half(), 1, "float16"),
        (torch.ones(2, 3).int(), torch.ones(4, 3).int(), 1, r"\.float\(\)"),
        (torch.ones(2, 3), torch.ones(4, 3, device="meta"), 1, "move both"),
    ],
)
def test_bad_input(queries, keys, k, message):
    with pytest.raises(UserError, match=message):
        knn(queries, keys, k)


def test_bad_options():
    with pytest.raises(UserError, match="tiles of 0 bytes"):
        knn(torch.ones(2, 3), torch.ones(4, 3), 1, tile_bytes=0)
    with pytest.raises(UserError, match="unknown metric 'cosine'"):
        kmeans_assign(torch.ones(2, 3), torch.ones(4, 3), "cosine")
    with pytest.raises(UserError, match="centroids is empty"):
        kmeans_assign(torch.ones(2, 3), torch.ones(0, 3))
