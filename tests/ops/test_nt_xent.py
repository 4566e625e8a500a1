"""nt_xent against the dense formula in float64; shapes, defined corner cases, bad input."""

import itertools
import subprocess
import sys

import pytest
import torch
from ops.pairs import pair, value_and_gradients
from torch.nn import functional

from sslfast.errors import UserError
from sslfast.ops import nt_xent
from sslfast.ops.nt_xent import (
    negatives_logsumexp,
    negatives_logsumexp_and_largest,
    unit_rows,
)
from sslfast.ops.reference import nt_xent as reference


def assert_matches(z0, z1, temperature):
    """Errors against float64 stay within a few roundings, or within twice those of plain PyTorch in this precision."""
    exact = value_and_gradients(reference.nt_xent, z0.double(), z1.double(), temperature)
    plain = value_and_gradients(reference.nt_xent, z0, z1, temperature)
    ours = value_and_gradients(nt_xent, z0, z1, temperature)
    lengths = torch.cat([z0, z1]).norm(dim=1)
    # Logits are rounded relative to 1 / temperature; so is the loss, and a row's gradient relative to its weights.
    rounding = 8 * torch.finfo(z0.dtype).eps / min(temperature, 1)
    term = 1 / (len(lengths) * temperature * lengths[lengths > 0].min().item())
    for got, naive, want, scale in zip(ours, plain, exact, (1, term, term), strict=True):
        allowed = max(rounding * max(scale, want.abs().max().item()), 2 * (naive - want).abs().max().item())
        assert (got - want).abs().max().item() <= allowed
    assert ours[0].isfinite()


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 31, 32, 33, 65, 96, 299])
@pytest.mark.parametrize("depth", [1, 2, 63, 65, 257])
def test_shapes(batch, depth):
    assert_matches(*pair(batch, depth, seed=batch), 0.5)


@pytest.mark.parametrize("temperature", [0.01, 0.0299, 0.03, 0.07, 0.5, 1.0, 10.0])
@pytest.mark.parametrize("batch", [2, 45])
def test_temperatures(temperature, batch):
    assert_matches(*pair(batch, 40, seed=1), temperature)
    assert_matches(*pair(batch, 40, seed=1, dtype=torch.float64), temperature)


def test_larger_than_one_block_of_rows():
    """More than 2048 rows use larger blocks."""
    assert_matches(*pair(1100, 24), 0.1)


@pytest.mark.parametrize("temperature", [0.01, 0.05, 1.0, 10.0])
@pytest.mark.parametrize("depth", [1, 3, 128, 1024])
@pytest.mark.parametrize("batch", [1, 3, 40, 260])
def test_grid(batch, depth, temperature):
    assert_matches(*pair(batch, depth, seed=7), temperature)


@pytest.mark.parametrize(("batch", "depth"), [(6200, 3), (2500, 1024)])
@pytest.mark.parametrize("temperature", [0.2, 0.02])
def test_large_batches(batch, depth, temperature):
    """Blocks grow with the batch; a few rows are compared, because the whole matrix is large."""
    torch.manual_seed(0)
    units = unit_rows(pair(batch, depth)[0].repeat(2, 1) + 0.1 * torch.randn(2 * batch, depth)).requires_grad_()
    own = torch.arange(len(units))
    excluded = torch.stack([own, own.roll(batch)], 1)
    lse = negatives_logsumexp(units, None, excluded, temperature)
    weights = torch.rand(len(units))
    (grad,) = torch.autograd.grad(lse, units, weights)
    edges = torch.tensor([383, 384, batch - 1, batch, 2 * batch - 112, 2 * batch - 111, 2 * batch - 1])
    rows = torch.cat([torch.arange(0, 2 * batch, batch // 16), edges])
    logits = units.detach().double()[rows] @ units.detach().double().T / temperature
    logits.scatter_(1, excluded[rows], -torch.inf)
    torch.testing.assert_close(lse.detach()[rows].double(), logits.logsumexp(1), rtol=1e-6, atol=1e-5)
    shares = weights[rows, None] * (logits - lse[rows, None]).exp() + weights * (logits - lse).exp()
    expected = shares.detach() @ units.detach().double() / temperature
    torch.testing.assert_close(grad[rows].double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("temperature", [0.01, 0.5])
@pytest.mark.parametrize("kind", ["duplicates", "opposites", "one_hot", "equal_views"])
def test_structured_embeddings(kind, temperature):
    z0, z1 = pair(24, 8)
    if kind == "duplicates":
        z0, z1 = torch.ones_like(z0), torch.ones_like(z1)
    elif kind == "opposites":
        z1 = -z0
    elif kind == "one_hot":
        z0 = z1 = functional.one_hot(torch.arange(24) % 8, 8).float()
    else:
        z1 = z0.clone()
    assert_matches(z0, z1, temperature)


@pytest.mark.parametrize("scale", [1e-10, 1e-3, 1e6, 1e30])
def test_length_does_not_matter(scale):
    z0, z1 = pair(20, 16)
    loss, grad, _ = value_and_gradients(nt_xent, z0, z1, 0.2)
    scaled_loss, scaled_grad, _ = value_and_gradients(nt_xent, z0 * scale, z1 * scale, 0.2)
    torch.testing.assert_close(scaled_loss, loss, rtol=1e-6, atol=0)
    torch.testing.assert_close(scaled_grad * scale, grad, rtol=1e-4, atol=1e-8)


def test_zero_vectors_have_no_gradient():
    z0, z1 = pair(9, 5)
    z0[2], z0[4], z1[4] = 0, 0, 0
    assert_matches(z0, z1, 0.3)
    _, grad0, grad1 = value_and_gradients(nt_xent, z0, z1, 0.3)
    assert grad0[2].eq(0).all() and grad0[4].eq(0).all() and grad1[4].eq(0).all()
    loss, grad0, grad1 = value_and_gradients(nt_xent, torch.zeros(4, 3), torch.zeros(4, 3), 0.3)
    assert loss == pytest.approx(torch.tensor(7.0).log().item())  # all seven others are alike
    assert grad0.eq(0).all() and grad1.eq(0).all()


@pytest.mark.parametrize("temperature", [0.01, 0.5])
def test_single_pair_has_no_negatives(temperature):
    loss, grad0, grad1 = value_and_gradients(nt_xent, *pair(1, 6), temperature)
    assert loss == 0 and grad0.eq(0).all() and grad1.eq(0).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("temperature", [0.01, 0.5])
def test_non_finite_embedding_makes_the_loss_nan(bad, temperature):
    z0, z1 = pair(70, 6)
    z1[3, 2] = bad
    assert nt_xent(z0, z1, temperature).isnan()


def test_gradcheck():
    for batch, depth, temperature in [(1, 3, 0.5), (2, 1, 0.5), (3, 4, 0.5), (5, 3, 0.02)]:
        z0, z1 = pair(batch, depth, dtype=torch.float64)
        z0, z1 = z0.requires_grad_(), z1.requires_grad_()
        assert torch.autograd.gradcheck(lambda a, b, t=temperature: nt_xent(a, b, t), (z0, z1))


def test_gradcheck_of_the_general_form():
    generator = torch.Generator().manual_seed(0)
    queries, keys = (torch.randn(n, 4, dtype=torch.float64, generator=generator) for n in (5, 7))
    queries, keys = unit_rows(queries).requires_grad_(), unit_rows(keys).requires_grad_()
    excluded = torch.tensor([[0, 1], [6, 6], [-1, 7], [2, 5], [3, 0]])
    for temperature in (0.3, 0.02):
        assert torch.autograd.gradcheck(
            lambda q, k, t=temperature: negatives_logsumexp(q, k, excluded, t), (queries, keys)
        )


def test_own_keys_equal_given_keys():
    """Computing each pair once changes the rounding only."""
    z = unit_rows(pair(150, 20)[0])
    own = torch.arange(150)
    excluded = torch.stack([own, own.roll(75)], 1)
    for temperature in (0.1, 0.02):
        once = negatives_logsumexp(z, None, excluded, temperature)
        twice = negatives_logsumexp(z, z.clone(), excluded, temperature)
        torch.testing.assert_close(once, twice, rtol=1e-6, atol=1e-6)


def test_all_columns_excluded():
    z = unit_rows(pair(3, 4)[0]).requires_grad_()
    keys = unit_rows(pair(2, 4)[1]).requires_grad_()
    for temperature in (0.5, 0.01):
        lse = negatives_logsumexp(z, keys, torch.tensor([[0, 1]] * 3), temperature)
        assert lse.eq(-torch.inf).all()
        for grad in torch.autograd.grad(lse, (z, keys), torch.ones(3)):
            assert grad.eq(0).all()


@pytest.mark.parametrize("temperature", [0.5, 0.01])
@pytest.mark.parametrize("own_keys", [True, False])
def test_largest_similarity(own_keys, temperature):
    """Of the negatives alone, beside the same log-sum-exp; a row without negatives has none."""
    z = unit_rows(pair(300, 20)[0])
    own = torch.arange(300)
    excluded = torch.stack([own, own.roll(150)], 1)
    queries, keys = (z, None) if own_keys else (z[:70], z)
    excluded = excluded[: len(queries)]
    lse, largest = negatives_logsumexp_and_largest(queries.requires_grad_(), keys, excluded, temperature)
    similarity = (queries @ z.T).detach().scatter(1, excluded, -torch.inf)
    torch.testing.assert_close(largest, similarity.amax(1), rtol=0, atol=1e-6)
    assert torch.equal(lse, negatives_logsumexp(queries, keys, excluded, temperature))
    assert lse.requires_grad and not largest.requires_grad
    _, nothing = negatives_logsumexp_and_largest(queries[:2], z[:2], torch.tensor([[0, 1]] * 2), temperature)
    assert nothing.eq(-torch.inf).all()


def test_largest_similarity_passes_over_nan():
    z = unit_rows(pair(4, 3)[0])
    z[3] = torch.nan
    _, largest = negatives_logsumexp_and_largest(z, None, torch.arange(4)[:, None], 0.5)
    similarity = (z[:3] @ z[:3].T).fill_diagonal_(-torch.inf)
    torch.testing.assert_close(largest[:3], similarity.amax(1))
    assert largest[3] == -torch.inf


def test_layouts():
    z0, z1 = pair(21, 19)
    expected = value_and_gradients(nt_xent, z0, z1, 0.3)
    padded = torch.zeros(42, 40)
    padded[::2, ::2][:, :19] = z1
    views = (z0.T.contiguous().T, padded[::2, ::2][:, :19])
    assert not views[0].is_contiguous() and not views[1].is_contiguous()
    for leaf in itertools.product((0, 1), repeat=2):
        inputs = [(z0, z1)[k] if use == 0 else views[k] for k, use in enumerate(leaf)]
        loss = nt_xent(*inputs, 0.3)
        torch.testing.assert_close(loss.double(), expected[0], rtol=1e-6, atol=0)
    transposed = z0.T.contiguous().requires_grad_()
    (grad,) = torch.autograd.grad(nt_xent(transposed.T, z1, 0.3), transposed)
    torch.testing.assert_close(grad.T.double(), expected[1], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("temperature", [0.5, 0.01])
def test_same_bits_with_any_number_of_threads(temperature):
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 5, 2):
            torch.set_num_threads(count)
            results.append(value_and_gradients(nt_xent, *pair(301, 33), temperature))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(torch.equal(ours, first) for ours, first in zip(result, results[0], strict=True))


def test_only_one_input_needs_a_gradient():
    z0, z1 = pair(12, 7)
    full = value_and_gradients(nt_xent, z0, z1, 0.5)
    leaf = z1.clone().requires_grad_()
    (grad,) = torch.autograd.grad(nt_xent(z0, leaf, 0.5), leaf)
    torch.testing.assert_close(grad.double(), full[2])
    assert not nt_xent(z0, z1).requires_grad


def test_compiles_without_graph_break():
    torch.compiler.reset()
    compiled = torch.compile(nt_xent, fullgraph=True, backend="aot_eager")
    for dtype in (torch.float32, torch.bfloat16):
        z0, z1 = pair(10, 6, dtype=dtype)
        for got, want in zip(
            value_and_gradients(compiled, z0, z1, 0.5), value_and_gradients(nt_xent, z0, z1, 0.5), strict=True
        ):
            torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-7)


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_memory_at_a_large_batch():
    """Forward and backward of 4096 pairs of 128 dimensions need at most 64 MB; the matrix alone would be 268 MB."""
    code = """if True:
        import torch
        from pathlib import Path
        from sslfast.ops import nt_xent

        def kilobytes(field):
            lines = Path("/proc/self/status").read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith(field))

        torch.set_num_threads(2)
        nt_xent(torch.randn(99, 128, requires_grad=True), torch.randn(99, 128)).backward()
        z0, z1 = (torch.randn(4096, 128, requires_grad=True) for _ in range(2))
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
        before = kilobytes("VmRSS")
        nt_xent(z0, z1, 0.5).backward()
        print(kilobytes("VmHWM") - before)
    """
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert 4096 < int(result.stdout) <= 64 * 1024  # the gradients alone are 4 MB


@pytest.mark.parametrize(
    ("z0", "z1", "temperature", "message"),
    [
        (torch.ones(3, 4), torch.ones(2, 4), 0.5, "same shape"),
        (torch.ones(3, 4), torch.ones(3, 5), 0.5, "same shape"),
        (torch.ones(3, 4), torch.ones(3, 4).double(), 0.5, r"z1\.to\(z0\.dtype\)"),
        (torch.ones(3, 4).long(), torch.ones(3, 4).long(), 0.5, r"\.float\(\)"),
        (torch.ones(3), torch.ones(3), 0.5, "2 dimensions"),
        (torch.ones(3, 4, 1, 1), torch.ones(3, 4, 1, 1), 0.5, r"\.flatten\(1\)"),
        (torch.ones(0, 4), torch.ones(0, 4), 0.5, "empty"),
        (torch.ones(3, 0), torch.ones(3, 0), 0.5, "empty"),
        (torch.ones(3, 4), torch.ones(3, 4, device="meta"), 0.5, "move both"),
        *((torch.ones(3, 4), torch.ones(3, 4), t, "above 0") for t in (0.0, -0.5, float("nan"), float("inf"))),
    ],
)
def test_bad_input(z0, z1, temperature, message):
    with pytest.raises(UserError, match=message):
        nt_xent(z0, z1, temperature)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries": torch.ones(3, 4).int()}, "float32, float64, float16 or bfloat16"),
        ({"queries": torch.ones(3, 4).half()}, "keys must be float16"),
        ({"queries": torch.ones(12)}, "shape"),
        ({"queries": torch.ones(0, 4), "excluded": torch.ones(0, 1).long()}, "empty"),
        ({"keys": torch.ones(5, 3)}, "shape"),
        ({"keys": torch.ones(0, 4)}, "empty"),
        ({"keys": torch.ones(5, 4).double()}, "dtype|float32"),
        ({"excluded": torch.ones(4, 1).long()}, "shape"),
        ({"excluded": torch.ones(3, 1).int()}, "int64"),
        ({"temperature": 0.0}, "above 0"),
        ({"queries": torch.ones(4, 3).T}, "contiguous"),
    ],
)
def test_bad_input_to_the_kernel(change, message):
    arguments = {"queries": torch.ones(3, 4), "keys": torch.ones(5, 4), "excluded": torch.ones(3, 1).long()}
    arguments |= {"temperature": 0.5, "largest": False, "tf32": False} | change
    with pytest.raises(RuntimeError, match=message):
        torch.ops.sslfast.nt_xent_forward(**arguments)
