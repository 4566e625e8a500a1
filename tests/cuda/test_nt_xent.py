"""nt_xent's tensor-core kernels at full size: accuracy, equal bits, memory, graphs."""

import pytest
import torch

from sslfast.ops import nt_xent
from sslfast.ops.nt_xent import negatives_logsumexp, negatives_logsumexp_and_largest, unit_rows

pytestmark = pytest.mark.cuda

# Largest error of a similarity's factor, relative to a unit row.
ROUNDING = {"float32": 2.0**-21, "tf32": 2.0**-10, "float16": 2.0**-10, "bfloat16": 2.0**-7}


@pytest.fixture(params=ROUNDING)
def precision(request):
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32" if request.param == "tf32" else "ieee"
    yield request.param
    torch.backends.cuda.matmul.fp32_precision = before


def rows_of(count, depth, precision, seed=0):
    generator = torch.Generator("cuda").manual_seed(seed)
    unit = unit_rows(torch.randn(count, depth, generator=generator, device="cuda"))
    return unit.to(getattr(torch, precision.replace("tf32", "float32")))


def pairs(count):
    own = torch.arange(count, device="cuda")
    return torch.stack([own, own.roll(count // 2)], 1)


def dense(queries, keys, excluded, temperature):
    similarity = (queries @ (queries if keys is None else keys).T).scatter(1, excluded, -torch.inf)
    return (similarity / temperature).logsumexp(1), similarity.amax(1)


def value_and_gradients(function, inputs, weights):
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    lse, largest = function(inputs[0], inputs[1] if len(inputs) > 1 else None)
    return [lse.detach(), largest.detach(), *torch.autograd.grad(lse, inputs, weights.to(lse.dtype))]


@pytest.mark.parametrize("temperature", [0.01, 0.07, 0.5])
@pytest.mark.parametrize(
    ("rows", "columns", "depth"), [(4096, 0, 128), (3001, 0, 512), (1500, 6007, 128), (700, 900, 65)]
)
def test_against_float64(rows, columns, depth, temperature, precision):
    inputs = [rows_of(rows, depth, precision)]
    inputs += [rows_of(columns, depth, precision, seed=1)] if columns else []
    excluded = pairs(rows // 2 * 2) if not columns else pairs(rows) % columns
    if len(excluded) < rows:  # the odd row excludes itself
        excluded = torch.cat([excluded, excluded.new_full((1, 2), rows - 1)])
    weights = torch.rand(rows, device="cuda")
    ours = value_and_gradients(
        lambda q, k: negatives_logsumexp_and_largest(q, k, excluded, temperature), inputs, weights
    )
    exact = value_and_gradients(lambda q, k: dense(q, k, excluded, temperature), [x.double() for x in inputs], weights)
    # Low-precision inputs are exact here: what is left are the rounded weights, and TF32's factors. Besides, tensor
    # cores cut off the sum of a similarity, below 1/2, for every 8 products: the largest similarity shows it.
    cut_off = depth / 8 * 2.0**-25
    allowed = (ROUNDING[precision] + cut_off) / min(temperature, 1)
    for got, want in zip(ours, exact, strict=True):
        assert (got.double() - want).abs().max() <= allowed * max(1.0, want.abs().max().item())
    again = value_and_gradients(
        lambda q, k: negatives_logsumexp_and_largest(q, k, excluded, temperature), inputs, weights
    )
    assert all(torch.equal(first, second) for first, second in zip(ours, again, strict=True))


def test_symmetric_equals_full(precision):
    """Pairs that are computed once give what they give twice."""
    unit, excluded = rows_of(5000, 96, precision), pairs(5000)
    once = negatives_logsumexp(unit, None, excluded, 0.2)
    torch.testing.assert_close(once, negatives_logsumexp(unit, unit.clone(), excluded, 0.2), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast(dtype):
    """Products in autocast's dtype, close to those in float32."""
    generator = torch.Generator("cuda").manual_seed(0)
    z0, z1 = (torch.randn(512, 128, generator=generator, device="cuda").requires_grad_() for _ in range(2))
    exact = nt_xent(z0, z1, 0.1)
    with torch.autocast("cuda", dtype=dtype):
        loss = nt_xent(z0, z1, 0.1)
    assert loss != exact
    torch.testing.assert_close(loss, exact, rtol=1e-2, atol=0)
    for ours, want in zip(torch.autograd.grad(loss, (z0, z1)), torch.autograd.grad(exact, (z0, z1)), strict=True):
        assert (ours - want).norm() <= 2e-2 * want.norm()


@pytest.mark.parametrize("depth", [128, 512])
def test_memory_of_a_huge_batch(depth):
    """131,072 rows: the matrix would take 64 GiB."""
    unit, excluded = rows_of(131072, depth, "bfloat16").requires_grad_(), pairs(131072)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    negatives_logsumexp(unit, None, excluded, 0.2).sum().backward()
    torch.cuda.synchronize()
    assert unit.grad.isfinite().all()
    assert torch.cuda.max_memory_allocated() - before < 8 * 4 * unit.numel()
