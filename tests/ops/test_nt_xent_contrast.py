"""What the CPU does in one op against the same step by step; what is refused."""

import sys

import pytest
import torch
from ops.pairs import pair, value_and_gradients

from sslfast import losses
from sslfast.errors import UserError
from sslfast.ops import info_nce, nt_xent
from sslfast.ops.nt_xent_contrast import unit_rows
from sslfast.ops.reference import nt_xent as reference

NEGATIVES = pair(90, 12, seed=5)[0]
CASES = {
    "nt_xent": nt_xent,
    "info_nce": lambda a, b, t: info_nce(a, b, temperature=t),
    "symmetric": lambda a, b, t: info_nce(a, b, temperature=t, symmetric=True),
    "negatives": lambda a, b, t: info_nce(a, b, NEGATIVES.to(a), t),
    "DCLLoss": lambda a, b, t: losses.DCLLoss(t)(a, b),
    "DCLWLoss": lambda a, b, t: losses.DCLWLoss(t)(a, b),
}
WITH_METRICS = {
    "nt_xent": lambda a, b: nt_xent(a, b, 0.1, metrics=True)[1],
    "info_nce": lambda a, b: info_nce(a, b, metrics=True)[1],
    "symmetric": lambda a, b: info_nce(a, b, symmetric=True, metrics=True)[1],
    "negatives": lambda a, b: info_nce(a, b, NEGATIVES.to(a), metrics=True)[1],
}


@pytest.fixture
def step_by_step(monkeypatch):
    """Turns the ops for several steps off, as on a device that has none."""

    def off():
        for module in ("nt_xent", "info_nce", "nt_xent_contrast"):
            monkeypatch.setattr(sys.modules[f"sslfast.ops.{module}"], "in_one_op", lambda rows: False)

    return off


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("temperature", [0.02, 0.2])
@pytest.mark.parametrize("name", CASES)
def test_equals_the_steps(name, temperature, dtype, step_by_step):
    tensors = pair(75, 12, dtype=dtype)
    at_once = value_and_gradients(CASES[name], *tensors, temperature)
    step_by_step()
    tolerance = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 1e-2}[dtype]
    for got, want in zip(at_once, value_and_gradients(CASES[name], *tensors, temperature), strict=True):
        torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance * want.abs().max().item())


@pytest.mark.parametrize("name", WITH_METRICS)
def test_metrics_equal_those_of_the_steps(name, step_by_step):
    tensors = pair(75, 12)
    at_once = WITH_METRICS[name](*tensors)
    step_by_step()
    torch.testing.assert_close(tuple(at_once), tuple(WITH_METRICS[name](*tensors)), rtol=1e-5, atol=1e-6)


def test_the_steps_are_off(step_by_step):
    """Else the tests above compare nothing."""
    rows = pair(4, 3)[0].requires_grad_()
    assert "_UnitRows" in type(unit_rows(rows).grad_fn).__name__
    step_by_step()
    assert "_UnitRows" not in type(unit_rows(rows).grad_fn).__name__


@pytest.mark.parametrize("scale", [1e-30, 1e-13, 1e-10, 1.0, 1e30])
def test_unit_rows(scale):
    rows = scale * pair(40, 33)[0].requires_grad_()
    unit = unit_rows(rows)
    wanted = reference.unit_rows(rows.double()) if scale > 1e-12 else torch.zeros_like(rows)
    torch.testing.assert_close(unit.double(), wanted.double(), rtol=1e-6, atol=1e-7)
    assert not unit_rows(rows.detach()).requires_grad


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_unit_rows_hide_nothing(bad):
    rows = pair(4, 33)[0]
    rows[2, 7] = bad
    assert unit_rows(rows).isnan().all(1).tolist() == [False, False, True, False]
    rows[2] = 0
    rows[2, 20] = torch.nan
    assert unit_rows(rows)[2].isnan().all()


def test_gradcheck_of_unit_rows():
    assert torch.autograd.gradcheck(unit_rows, pair(5, 4, dtype=torch.float64)[0].requires_grad_())


# torch compiles its own forward mode with what it deprecates.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_unit_rows_are_differentiable_once():
    rows = pair(5, 4)[0].requires_grad_()
    (gradient,) = torch.autograd.grad(unit_rows(rows)[:, 0].sum(), rows, create_graph=True)
    with pytest.raises(UserError, match="differentiable once"):
        gradient.sum().backward()
    with torch.autograd.forward_ad.dual_level(), pytest.raises(UserError, match="in reverse mode"):
        unit_rows(torch.autograd.forward_ad.make_dual(rows.detach(), rows.detach()))


@pytest.mark.parametrize("name", CASES)
def test_same_bits_with_any_number_of_threads(name):
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 5, 2):
            torch.set_num_threads(count)
            results.append(value_and_gradients(CASES[name], *pair(301, 12), 0.1))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(map(torch.equal, result, results[0]))


def test_only_what_requires_it_gets_a_gradient():
    a, b = pair(12, 7)
    for leaf, inputs in ((a, (a, b)), (b, (a, b))):
        full = value_and_gradients(CASES["info_nce"], a, b, 0.1)
        leaf.requires_grad_()
        (gradient,) = torch.autograd.grad(info_nce(*inputs), leaf)
        torch.testing.assert_close(gradient.double(), full[1 if leaf is a else 2], rtol=1e-5, atol=1e-7)
        leaf.requires_grad_(False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first": torch.ones(3, 4).int()}, "float32, float64, float16 or bfloat16"),
        ({"first": torch.ones(0, 4), "second": torch.ones(0, 4)}, "empty"),
        ({"first": torch.ones(4, 3).T}, "contiguous"),
        ({"second": torch.ones(2, 4)}, "shape"),
        ({"second": torch.ones(3, 4).double()}, "second must be float32"),
        ({"others": torch.ones(5, 3)}, "shape"),
        ({"others": torch.ones(0, 4)}, "empty"),
        ({"others": torch.ones(5, 4).double()}, "others must be float32"),
        ({"others": torch.ones(5, 4), "views": True}, "exclude each other"),
        ({"views": True, "both_ways": True}, "exclude each other"),
        ({"temperature": 0.0}, "above 0"),
    ],
)
def test_bad_input_to_the_kernel(change, message):
    arguments = {"first": torch.ones(3, 4), "second": torch.ones(3, 4), "others": None, "temperature": 0.5}
    arguments |= {"views": False, "both_ways": False, "largest": False} | change
    with pytest.raises(RuntimeError, match=message):
        torch.ops.sslfast.nt_xent_contrast_forward(**arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grad_loss": torch.ones(())}, "give grad_loss, or both"),
        ({"grad_negatives": None}, "give grad_loss, or both"),
        ({"grad_loss": torch.ones(1), "grad_positives": None, "grad_negatives": None}, "shape"),
        ({"grad_positives": torch.ones(5)}, "shape"),
        ({"grad_negatives": torch.ones(6).double()}, "grad_negatives must be float32"),
        ({"unit": torch.ones(5, 4)}, "as many rows of one view"),
        ({"inverse": torch.ones(5)}, "shape"),
        ({"positives": torch.ones(3)}, "shape"),
        ({"negatives": torch.ones(3)}, "shape"),
        ({"others": torch.ones(5, 4)}, "exclude each other"),
    ],
)
def test_bad_input_to_the_backward_kernel(change, message):
    arguments = dict.fromkeys(("grad_positives", "grad_negatives", "inverse", "positives", "negatives"), torch.ones(6))
    arguments |= {"grad_loss": None, "unit": torch.ones(6, 4), "others": None, "temperature": 0.5, "views": True}
    arguments |= {"both_ways": False, "second_gradient": True, "others_gradient": False} | change
    with pytest.raises(RuntimeError, match=message):
        torch.ops.sslfast.nt_xent_contrast_backward(**arguments)
