"""Accuracy of nt_xent's tensor-core kernels on the bench: what the contract's tolerances do not see."""

import pytest
import torch
from simt import bench

from sslfast.ops.reference.nt_xent import negatives_logsumexp, unit_rows

pytestmark = pytest.mark.simt


def embeddings(rows, depth, seed=0):
    return unit_rows(torch.randn(rows, depth, generator=torch.Generator().manual_seed(seed)))


def pairs(rows):
    own = torch.arange(rows)
    return torch.stack([own, own.roll(rows // 2)], 1)


def dense(grad, queries, keys, excluded, temperature):
    """lse and gradients in the inputs' dtype."""
    inputs = [x.detach().clone().requires_grad_() for x in (queries, keys) if x is not None]
    lse = negatives_logsumexp(inputs[0], inputs[1] if keys is not None else None, excluded, temperature)
    return lse.detach(), *torch.autograd.grad(lse, inputs, grad.to(lse.dtype))


def ours(grad, queries, keys, excluded, temperature, tf32=False):
    lse, _ = bench.call("nt_xent_forward", queries, keys, excluded, temperature, False, tf32)
    gradients = bench.call("nt_xent_backward", grad, queries, keys, excluded, lse, temperature, keys is not None, tf32)
    return lse, *(gradient for gradient in gradients if len(gradient) > 0)


def errors(results, exact):
    return [
        ((got.double() - want).abs().max() / want.abs().max()).item() for got, want in zip(results, exact, strict=True)
    ]


@pytest.mark.parametrize(("rows", "columns", "depth"), [(70, 0, 128), (66, 0, 200), (33, 70, 60)])
@pytest.mark.parametrize("temperature", [0.02, 0.1])
def test_float32_is_as_accurate_as_plain_float32(rows, columns, depth, temperature):
    """TF32 is not: its factors have 11 significant bits."""
    queries = embeddings(rows, depth)
    keys, excluded = None, pairs(rows)
    if columns:
        keys, excluded = embeddings(columns, depth, seed=1), pairs(rows) % columns
    grad = torch.rand(rows, generator=torch.Generator().manual_seed(2))
    exact = dense(grad, queries.double(), None if keys is None else keys.double(), excluded, temperature)
    plain = errors(dense(grad, queries, keys, excluded, temperature), exact)
    full = errors(ours(grad, queries, keys, excluded, temperature), exact)
    short = errors(ours(grad, queries, keys, excluded, temperature, tf32=True), exact)
    rounding = torch.finfo(torch.float32).eps / temperature
    for error, naive, rounded in zip(full, plain, short, strict=True):
        assert error <= max(2 * naive, 2 * rounding)
        assert 4 * error < rounded < 2.0**-10 / temperature


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-6, 1e20])
def test_gradients_of_any_size(dtype, scale):
    """Weights are scaled to what 16 bits hold, whatever the gradient of the loss is."""
    queries, excluded = embeddings(34, 20).to(dtype), pairs(34)
    grad = torch.rand(34, generator=torch.Generator().manual_seed(3)) - 0.5
    lse = negatives_logsumexp(queries.float(), None, excluded, 0.2)
    once, _ = bench.call("nt_xent_backward", grad, queries.float(), None, excluded, lse, 0.2, False, False)
    scaled, _ = bench.call("nt_xent_backward", grad * scale, queries, None, excluded, lse, 0.2, False, False)
    assert scaled.dtype == dtype
    # Gradients below float16's range or above it are 0 or infinite there, as in any of its products.
    expected = (once * scale).to(dtype).float()
    rounding = {torch.float32: 1e-5, torch.float16: 2.0**-9, torch.bfloat16: 2.0**-6}[dtype]
    torch.testing.assert_close(
        scaled.float(),
        expected,
        rtol=rounding,
        atol=max(rounding * once.abs().max().item() * scale, 1e-7 * (scale < 1)),
    )


def test_every_column_excluded():
    """Rows without negatives have gradient 0, and give none to the keys."""
    queries, keys = embeddings(5, 8), embeddings(3, 8, seed=1)
    excluded = torch.arange(3).expand(5, 3).contiguous()
    for temperature in (0.5, 0.01):
        lse, *gradients = ours(torch.ones(5), queries, keys, excluded, temperature)
        assert lse.eq(-torch.inf).all()
        assert all(gradient.eq(0).all() for gradient in gradients)
    lse, *gradients = ours(torch.ones(1), embeddings(1, 8), None, torch.tensor([[0]]), 0.5)
    assert lse.eq(-torch.inf).all() and gradients[0].eq(0).all()


def test_nan_reaches_every_row():
    queries = embeddings(70, 8)
    queries[3, 2] = torch.nan
    for temperature in (0.5, 0.01):
        lse, *gradients = ours(torch.ones(70), queries, None, torch.arange(70)[:, None], temperature)
        assert lse.isnan().all() and gradients[0].isnan().any()
