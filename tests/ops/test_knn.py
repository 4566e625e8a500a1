"""knn and kmeans_assign against the whole matrix, sorted; their ties, memory and limits."""

import subprocess
import sys

import pytest
import torch
from torch.nn import functional

from sslfast.errors import UserError
from sslfast.ops import kmeans_assign, knn
from sslfast.ops.knn import by_products, first_largest
from sslfast.ops.reference import knn as reference

TILES = [60, 300, 4000, 1 << 24]


def rows(count, depth=7, seed=0, dtype=torch.float64):
    return torch.randn(count, depth, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def whole_numbers(count, depth=3, seed=0):
    """Products of small whole numbers are exact in every precision, and often equal."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-2, 3, (count, depth), generator=generator).float()


def by_products_in(tile_bytes):
    return lambda queries, keys, k: by_products(queries, keys, None, k, tile_bytes)


# The CPU's kernel, and what other devices do.
SEARCHES = {"kernel": knn, **{f"products in {tile_bytes} bytes": by_products_in(tile_bytes) for tile_bytes in TILES}}


@pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)
@pytest.mark.parametrize("k", [1, 2, 9, 50])
@pytest.mark.parametrize("count", [50, 333])
def test_equals_all_pairs(k, count, search):
    queries, keys = rows(23), rows(count, seed=1)
    similarities, positions = search(queries, keys, k)
    wanted, where = reference.knn(queries, keys, k)
    assert torch.equal(positions, where)
    torch.testing.assert_close(similarities, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("search", [knn, by_products_in(1 << 24)])
def test_more_queries_than_a_tile_has_rows(search):
    queries, keys = rows(2500, 4), rows(31, 4, seed=1)
    similarities, positions = search(queries, keys, 3)
    wanted, where = reference.knn(queries, keys, 3)
    assert torch.equal(positions, where)
    torch.testing.assert_close(similarities, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("tile_bytes", TILES)
def test_products_and_bias(tile_bytes):
    queries, keys, bias = rows(23), rows(333, seed=1), rows(333, 1, seed=2).flatten()
    similarities, positions = by_products(queries, keys, bias, 9, tile_bytes)
    wanted, where = reference.knn(queries, keys, 9, bias)
    assert torch.equal(positions, where)
    torch.testing.assert_close(similarities, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)
@pytest.mark.parametrize("k", [1, 2, 9, 60])
def test_of_equal_keys_the_first_ones(k, search):
    queries, keys = whole_numbers(40), whole_numbers(200, seed=1)
    values = queries @ keys.T
    assert values[0].unique().numel() < 20
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        similarities, positions = search(queries.to(dtype), keys.to(dtype), k)
        wanted, where = reference.knn(queries, keys, k)
        assert torch.equal(positions, where) and torch.equal(similarities.float(), wanted)


@pytest.mark.parametrize("k", [1, 20, 200])
def test_long_search_in_float32(k):
    """Candidates are cut many times, and sums are rounded as in a product of the whole matrix."""
    queries, keys = (functional.normalize(rows(count, 300), dim=1).float() for count in (70, 6000))
    similarities, positions = knn(queries, keys, k)
    exact = queries.double() @ keys.double().T
    rounding = 300 * torch.finfo(torch.float32).eps
    torch.testing.assert_close(similarities.double(), exact.topk(k, dim=1).values, rtol=0, atol=rounding)
    torch.testing.assert_close(similarities.double(), exact.gather(1, positions), rtol=0, atol=rounding)
    assert (similarities.diff(dim=1) <= 0).all()
    assert all(row.unique().numel() == k for row in positions)


@pytest.mark.parametrize("k", [1, 30])
def test_same_bits_with_any_number_of_threads(k):
    """With few queries the threads share the keys, so that equal keys come from several threads."""
    queries, keys = rows(70, 33, dtype=torch.float32), rows(3000, 33, seed=1, dtype=torch.float32).repeat(3, 1)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 5, 8):
            torch.set_num_threads(count)
            results.append(knn(queries, keys, k))
    finally:
        torch.set_num_threads(threads)
    assert all(map(torch.equal, results[0], reference_of_repeated(queries, keys, k)))
    assert all(all(map(torch.equal, result, results[0])) for result in results[1:])


@pytest.mark.parametrize("count", [1, 2, 5, 7, 20, 31])
def test_same_bits_among_any_number_of_queries(count):
    """A few queries are multiplied in tiles of another shape; every sum keeps its order."""
    queries, keys = rows(130, 150, dtype=torch.float32), rows(700, 150, seed=1, dtype=torch.float32)
    alone = knn(queries[:count], keys, 9)
    assert all(torch.equal(few, many[:count]) for few, many in zip(alone, knn(queries, keys, 9), strict=True))


def reference_of_repeated(queries, keys, k):
    """`knn` of 3000 keys that are repeated twice: each neighbour stands three times, at its three positions."""
    similarities, positions = knn(queries, keys[:3000], k)
    positions = positions[:, :, None] + torch.tensor([0, 3000, 6000])
    return similarities.repeat_interleave(3, dim=1)[:, :k], positions.flatten(1)[:, :k]


def test_first_largest_is_in_order_of_columns():
    values = torch.tensor([[1.0, 5, 3, 5, 3, 3], [2, 2, 2, 2, 2, 2], [-torch.inf, 0, -0.0, -1, torch.inf, -torch.inf]])
    assert first_largest(values, 4).tolist() == [[1, 2, 3, 4], [0, 1, 2, 3], [1, 2, 3, 4]]
    assert first_largest(values, 1).tolist() == [[1], [0], [4]]
    assert first_largest(values, 6).tolist() == [[0, 1, 2, 3, 4, 5]] * 3


def test_first_largest_takes_the_first_nan():
    values = torch.tensor([[1.0, torch.nan, 3, 3], [3, 3, 3, 3], [2, torch.nan, torch.nan, torch.nan]])
    assert first_largest(values, 2).tolist() == [[1, 2], [0, 1], [1, 2]]


@pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)
@pytest.mark.parametrize("k", [1, 2, 5, 12])
def test_numbers_that_are_not_finite(k, search):
    """NaN before infinity, equal ones by their position; -0 equals 0."""
    keys = torch.tensor([0.0, -torch.inf, 3, torch.nan, -0.0, torch.inf, 2, -torch.nan, -torch.inf, torch.nan, 3, -1])
    order = [3, 7, 9, 5, 2, 10, 6, 0, 4, 11, 1, 8]
    queries = torch.tensor([[1.0], [torch.nan]])
    similarities, positions = search(queries, keys[:, None], k)
    assert positions.tolist() == [order[:k], list(range(k))]
    torch.testing.assert_close(similarities[0], keys[order[:k]], rtol=0, atol=0, equal_nan=True)
    assert similarities[1].isnan().all()


@pytest.mark.parametrize("k", [1, 3])
def test_more_nan_than_there_is_room_for(k):
    keys = rows(5000, 1, dtype=torch.float32)
    keys[100:] = torch.nan
    assert knn(torch.ones(1, 1), keys, k)[1].tolist() == [list(range(100, 100 + k))]
    assert knn(torch.full((1, 1), torch.nan), keys, k)[1].tolist() == [list(range(k))]


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
    by_products(rows(2500, 4, dtype=torch.float32), rows(3000, 4, dtype=torch.float32), None, 5, tile_bytes=1 << 18)
    assert max(sizes) <= 1 << 18
    assert len(sizes) >= 2 * 2500 * 3000 * 4 // (1 << 18)  # a tile is searched, then merged with the best so far


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_memory_of_a_large_search():
    """The matrix of 3000 queries and 100000 keys would be 1.2 GB; the result is 3.6 MB."""
    code = """if True:
        import torch
        from pathlib import Path
        from sslfast.ops import knn

        def kilobytes(field):
            lines = Path("/proc/self/status").read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith(field))

        torch.set_num_threads(2)
        queries, keys = torch.randn(3000, 16), torch.randn(100000, 16)
        knn(queries[:100], keys[:100], 10)
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
        before = kilobytes("VmRSS")
        knn(queries, keys, 100)
        print(kilobytes("VmHWM") - before)
    """
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert 3000 < int(result.stdout) <= 32 * 1024


@pytest.mark.parametrize("metric", ["euclidean", "dot"])
@pytest.mark.parametrize("clusters", [1, 2, 40])
def test_assignment_equals_all_pairs(metric, clusters):
    points, centroids = rows(120), rows(clusters, seed=1)
    assignment, value = kmeans_assign(points, centroids, metric)
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


def test_more_points_than_are_taken_at_a_time():
    points, centroids = whole_numbers(10_000), whole_numbers(30, seed=1)
    assignment, distances = kmeans_assign(points.half(), centroids.half())
    _, values = reference.kmeans_assign(points, centroids)
    assert torch.equal(distances, values)
    assert torch.equal((points - centroids[assignment]).square().sum(1), values)


def test_a_point_that_is_not_a_number():
    points = whole_numbers(5)
    points[3, 1] = torch.nan
    assignment, distances = kmeans_assign(points, whole_numbers(4, seed=1))
    _, values = reference.kmeans_assign(points, whole_numbers(4, seed=1))
    assert assignment[3] == 0 and distances[3].isnan()
    torch.testing.assert_close(distances, values, rtol=0, atol=1e-6, equal_nan=True)


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


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_centroid_that_is_not_finite(bad):
    centroids = torch.ones(4, 3)
    centroids[2, 1] = bad
    with pytest.raises(UserError, match="centroid 2 is not finite"):
        kmeans_assign(torch.ones(2, 3), centroids)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries": torch.ones(3, 4).int()}, "float32, float64, float16 or bfloat16"),
        ({"queries": torch.ones(3, 4).half()}, "keys must be float16"),
        ({"queries": torch.ones(12)}, "shape"),
        ({"queries": torch.ones(0, 4)}, "empty"),
        ({"queries": torch.ones(4, 3).T}, "contiguous"),
        ({"keys": torch.ones(5, 3)}, "shape"),
        ({"keys": torch.ones(4, 5).T}, "contiguous"),
        ({"keys": torch.ones(0, 4)}, "k is 2 and there are 0 keys"),
        ({"bias": torch.ones(4)}, "shape"),
        ({"bias": torch.ones(5).double()}, "float32"),
        ({"bias": torch.ones(10)[::2]}, "contiguous"),
        ({"k": 0}, "k is 0"),
        ({"k": 6}, "there are 5 keys"),
    ],
)
def test_bad_input_to_the_kernel(change, message):
    arguments = {"queries": torch.ones(3, 4), "keys": torch.ones(5, 4), "bias": None, "k": 2} | change
    with pytest.raises(RuntimeError, match=message):
        torch.ops.sslfast.knn(**arguments)


def test_shapes_on_the_meta_device():
    similarities, positions = knn(torch.empty(5, 3, device="meta"), torch.empty(7, 3, device="meta"), 2)
    assert similarities.shape == positions.shape == (5, 2)
    assert (similarities.dtype, positions.dtype) == (torch.float32, torch.int64)
