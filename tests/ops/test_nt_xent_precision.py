"""nt_xent in float16, bfloat16 and TF32, and under autocast."""

from contextlib import contextmanager

import pytest
import torch
from ops.pairs import pair, value_and_gradients
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from sslfast.ops import nt_xent
from sslfast.ops.nt_xent import negatives_logsumexp, similarity_rounding, unit_rows
from sslfast.ops.reference import nt_xent as reference


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("temperature", [0.01, 0.1, 0.5])
def test_low_precision_is_computed_in_float32(dtype, temperature):
    z0, z1 = pair(50, 64, dtype=dtype)
    loss = nt_xent(z0, z1, temperature)
    assert loss.dtype == torch.float32
    assert loss == nt_xent(z0.float(), z1.float(), temperature)
    ours = value_and_gradients(nt_xent, z0, z1, temperature)
    exact = value_and_gradients(reference.nt_xent, z0.double(), z1.double(), temperature)
    for got, want in zip(ours[1:], exact[1:], strict=True):
        spacing = torch.finfo(dtype).eps * want.abs() + (6e-8 if dtype == torch.float16 else 0)
        assert ((got - want).abs() <= spacing + 1e-4 * want.abs().max()).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_rows(dtype):
    """The core op takes them as they are: float32 results, gradients of the rows' dtype."""
    queries, keys = (unit_rows(z).to(dtype).requires_grad_() for z in pair(40, 12))
    excluded = torch.arange(40)[:, None]
    wide = [z.detach().float().requires_grad_() for z in (queries, keys)]
    for rows, all_keys in ((queries, keys), (queries, None)):
        ours = negatives_logsumexp(rows, all_keys, excluded, 0.2)
        theirs = negatives_logsumexp(wide[0], None if all_keys is None else wide[1], excluded, 0.2)
        assert ours.dtype == torch.float32 and torch.equal(ours, theirs)
        inputs = (rows,) if all_keys is None else (rows, all_keys)
        grads = torch.autograd.grad(ours.sum(), inputs)
        expected = torch.autograd.grad(theirs.sum(), wide[: len(inputs)])
        for grad, want in zip(grads, expected, strict=True):
            assert grad.dtype == dtype and torch.equal(grad, want.to(dtype))


@contextmanager
def autocast(device, dtype):
    """`torch.autocast`, which refuses "cuda" where there is no GPU."""
    before = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    torch.set_autocast_enabled(device, True)
    torch.set_autocast_dtype(device, dtype)
    try:
        yield
    finally:
        torch.set_autocast_enabled(device, before[0])
        torch.set_autocast_dtype(device, before[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_on_a_gpu_multiplies_in_its_dtype(dtype):
    """Tried on tensors without memory, which need no GPU; the CPU stays in float32."""
    seen = []

    class Record(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if "nt_xent_forward" in str(function):
                seen.append((args[0].dtype, None if args[1] is None else args[1].dtype))
            return function(*args, **(kwargs or {}))

    with FakeTensorMode(), Record():
        for device in ("cuda", "cpu"):
            rows, excluded = torch.empty(6, 4, device=device), torch.zeros(6, 1, dtype=torch.long, device=device)
            for keys in (None, rows):
                with autocast(device, dtype):
                    assert negatives_logsumexp(rows, keys, excluded, 0.5).dtype == torch.float32
                negatives_logsumexp(rows, keys, excluded, 0.5)
    wide = torch.float32
    assert seen[:4] == [(dtype, None), (wide, None), (dtype, dtype), (wide, wide)]
    assert seen[4:] == 2 * [(wide, None)] + 2 * [(wide, wide)]


def test_rounding_of_similarities():
    """As coarse as what is multiplied; tried without a GPU, as above."""
    eps = {dtype: torch.finfo(dtype).eps for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)}
    with FakeTensorMode():
        for device in ("cuda", "cpu"):
            rows = torch.empty(6, 4, device=device)
            assert similarity_rounding(rows) == 16 * eps[torch.float32]
            assert similarity_rounding(rows.double()) == 16 * eps[torch.float64]
            assert similarity_rounding(rows.half()) == eps[torch.float16]
            with autocast(device, torch.bfloat16):
                assert similarity_rounding(rows) == (eps[torch.bfloat16] if device == "cuda" else 16 * eps[rows.dtype])
            before = torch.backends.cuda.matmul.fp32_precision
            torch.backends.cuda.matmul.fp32_precision = "tf32"
            try:
                assert similarity_rounding(rows) == (2.0**-10 if device == "cuda" else 16 * eps[rows.dtype])
            finally:
                torch.backends.cuda.matmul.fp32_precision = before


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounding_bounds_what_low_precision_does(dtype):
    """Equal rows, multiplied as they are rounded, are no farther apart from 1 than that."""
    rows = unit_rows(torch.randn(2000, 128, generator=torch.Generator().manual_seed(0))).to(dtype)
    error = (rows.double().square().sum(1) - 1).abs().max().item()
    assert torch.finfo(dtype).eps / 20 < error < similarity_rounding(rows)


def test_tf32_changes_nothing_on_the_cpu():
    queries, excluded = unit_rows(pair(40, 12)[0]), torch.arange(40)[:, None]
    exact = negatives_logsumexp(queries, None, excluded, 0.2)
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        assert torch.equal(negatives_logsumexp(queries, None, excluded, 0.2), exact)
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_gives_no_nan(dtype):
    torch.manual_seed(0)
    projector = torch.nn.Linear(32, 16)
    with torch.autocast("cpu", dtype=dtype):
        out0, out1 = projector(torch.randn(64, 32) * 100), projector(torch.randn(64, 32) * 100)
        assert out0.dtype == dtype
        loss = nt_xent(out0, out1, 0.07)
    loss.backward()
    assert loss.isfinite() and projector.weight.grad.isfinite().all() and projector.weight.grad.abs().max() > 0
