"""nt_xent's Hopper kernels on the bench: the contract's samples, accuracy, corner cases, what they leave out."""

import contract
import pytest
import torch
from simt import bench
from simt.test_nt_xent import dense, embeddings, errors, ours, pairs

from sslfast.ops.reference.nt_xent import negatives_logsumexp

pytestmark = pytest.mark.simt

CASES = {
    name: (op, sample)
    for name, op, sample in contract.cases(small_only=True)
    if op.name.startswith("nt_xent") and "double" not in name and "cold_queue" not in name  # float64: no tensor cores
}


@pytest.fixture
def hopper():
    with bench.hopper():
        yield


def as_tf32(sample):
    """The sample with its last argument, `tf32`, set: one product of planes, which the kernels take."""
    return (*sample.args[:-1], True)


@pytest.mark.parametrize("case", CASES)
def test_sample(case):
    """Equals the portable path, and in 16 bits the reference; the same bits whenever copies and threads come."""
    op, sample = CASES[case]
    portable = bench.call(op.name, *as_tf32(sample))
    with bench.hopper():
        first, *others = [bench.call(op.name, *as_tf32(sample), seed=seed) for seed in bench.SEEDS]
    contract.assert_close(first, portable, op.device_atol)
    if any(isinstance(value, torch.Tensor) and value.dtype.itemsize == 2 for value in sample.args):
        contract.assert_close(first, contract.as_tuple(op.reference(*sample.args)), op.atol)
    for other in others:
        for ours_, theirs in zip(first, other, strict=True):
            assert torch.equal(ours_.nan_to_num(), theirs.nan_to_num()), "the order of the threads changes the result"


def test_no_sample_is_float64():
    dtypes = {value.dtype for _, sample in CASES.values() for value in sample.args if isinstance(value, torch.Tensor)}
    assert dtypes <= {torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32}


# Rows of one, two and more warp groups; columns that go round the ring; depths of every compiled width and above.
@pytest.mark.parametrize(
    ("rows", "columns", "depth"), [(70, 0, 60), (300, 0, 128), (130, 2000, 100), (70, 200, 200), (66, 140, 400)]
)
@pytest.mark.parametrize("temperature", [0.02, 0.1])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_against_float64(rows, columns, depth, temperature, dtype, hopper):
    queries, keys, excluded = embeddings(rows, depth).to(dtype), None, pairs(rows)
    if columns:
        keys, excluded = embeddings(columns, depth, seed=1).to(dtype), excluded % columns
    grad = torch.rand(rows, generator=torch.Generator().manual_seed(2))
    exact = dense(grad, queries.double(), None if keys is None else keys.double(), excluded, temperature)
    lse, *gradients = errors(ours(grad, queries, keys, excluded, temperature), exact)
    assert lse <= 2.0**-21 / temperature
    assert all(error <= torch.finfo(dtype).eps for error in gradients)


def test_bands(hopper):
    """2,048 deep rows a band, then the rest."""
    queries, keys = embeddings(2100, 300).half(), embeddings(5, 300, seed=1).half()
    excluded = pairs(2100)[:, :1] % 5
    grad = torch.rand(2100, generator=torch.Generator().manual_seed(2))
    exact = dense(grad, queries.double(), keys.double(), excluded, 0.1)
    lse, *gradients = errors(ours(grad, queries, keys, excluded, 0.1), exact)
    assert lse <= 2.0**-21 / 0.1
    assert all(error <= 2.0**-10 for error in gradients)


@pytest.mark.parametrize(
    ("dtype", "depth", "tf32", "taken"),
    [
        (torch.float16, 512, False, True),
        (torch.bfloat16, 513, False, False),
        (torch.float32, 60, False, False),
        (torch.float32, 60, True, True),
    ],
)
def test_what_they_take(dtype, depth, tf32, taken, hopper):
    """Three products of planes and deep rows stay with the portable path."""
    runtime = bench.load()
    queries, excluded = embeddings(8, depth).to(dtype), pairs(8)

    def uses_warpgroups(name, *args):
        before = runtime.simt_warpgroup_products()
        return bench.call(name, *args), runtime.simt_warpgroup_products() > before

    (lse, _), used = uses_warpgroups("nt_xent_forward", queries, None, excluded, 0.1, False, tf32)
    assert used == taken
    _, used = uses_warpgroups("nt_xent_backward", torch.ones(8), queries, None, excluded, lse, 0.1, False, tf32)
    assert used == taken


# Odd and even circles of three to five sectors; sectors of two turns of a block, the last of which has one; shares of a
# half circle; four warp groups, and two for deep rows; as much shared memory as either takes.
@pytest.mark.parametrize(
    ("rows", "depth", "multiprocessors"),
    [
        (600, 20, 4),
        (1000, 8, 4),
        (1100, 8, 4),
        (300, 260, 4),
        (500, 260, 4),
        (600, 260, 4),
        (300, 260, 8),
        (600, 260, 8),
        (600, 256, 4),
        (300, 512, 4),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_mirrored(rows, depth, multiprocessors, dtype):
    """A pair is computed once, and counts for both; the bits depend on nothing that may vary."""
    runtime = bench.load()
    queries, excluded = embeddings(rows, depth).to(dtype), pairs(rows)
    results, products = [], []
    with bench.hopper(multiprocessors):
        for keys, seed in [(queries, 0)] + [(None, seed) for seed in bench.SEEDS]:
            before = runtime.simt_warpgroup_products()
            results.append(bench.call("nt_xent_forward", queries, keys, excluded, 0.1, False, True, seed=seed)[0])
            products.append(runtime.simt_warpgroup_products() - before)
    assert all(mirrored < 0.9 * products[0] for mirrored in products[1:])
    assert all(torch.equal(result, results[1]) for result in results[2:])
    rounded = queries.half() if dtype == torch.float32 else queries
    exact = negatives_logsumexp(rounded.double(), None, excluded, 0.1)
    for result in results:
        torch.testing.assert_close(result.double(), exact, rtol=0, atol=2e-6)


def test_every_column_excluded(hopper):
    """Rows without negatives have gradient 0, and give none to the keys."""
    queries, keys = embeddings(5, 8).half(), embeddings(3, 8, seed=1).half()
    excluded = torch.arange(3).expand(5, 3).contiguous()
    for temperature in (0.5, 0.01):
        lse, *gradients = ours(torch.ones(5), queries, keys, excluded, temperature)
        assert lse.eq(-torch.inf).all()
        assert all(gradient.eq(0).all() for gradient in gradients)


def test_nan_reaches_every_row(hopper):
    queries = embeddings(70, 8).half()
    queries[3, 2] = torch.nan
    for temperature in (0.5, 0.01):
        lse, *gradients = ours(torch.ones(70), queries, None, torch.arange(70)[:, None], temperature)
        assert lse.isnan().all() and gradients[0].isnan().any()
