"""Learnt temperatures: their gradient against that of the formulas written densely in float64."""

import itertools

import pytest
import torch
from losses.common import embeddings
from torch import nn
from torch.nn import functional

from sslfast import losses
from sslfast.compat import metric_learning, solo
from sslfast.errors import UserError
from sslfast.ops import info_nce, nt_xent
from sslfast.ops.checks import tempered
from sslfast.ops.reference import nt_xent as reference

LABELS = torch.tensor([0, 1, 2, 0, 0, 1, 3, 2, 2, 2, 0, 4])


def unit(*tensors):
    return [functional.normalize(tensor, dim=1) for tensor in tensors]


def dense_info_nce(a, b, temperature):
    a, b = unit(a, b)
    return functional.cross_entropy(a @ b.T / temperature, torch.arange(len(a)))


def dense_queue(a, b, negatives, temperature):
    a, b, negatives = unit(a, b, negatives)
    logits = torch.cat([(a * b).sum(1, keepdim=True), a @ negatives.T], 1) / temperature
    return functional.cross_entropy(logits, torch.zeros(len(a)).long())


def dense_dcl(a, b, temperature, weights=None):
    (z,) = unit(torch.cat([a, b]))
    pairs = torch.arange(len(z)).roll(len(a))
    logits = (z @ z.T / temperature).scatter(1, torch.stack([torch.arange(len(z)), pairs], 1), -torch.inf)
    positives = (z * z[pairs]).sum(1) / temperature
    return (logits.logsumexp(1) - (positives if weights is None else weights * positives)).mean()


def dense_dclw(a, b, temperature):
    agreement = (unit(a)[0] * unit(b)[0]).sum(1).detach()
    return dense_dcl(a, b, temperature, (2 - len(a) * (agreement / 0.5).softmax(0)).repeat(2))


def dense_supcon(z, temperature):
    (z,) = unit(z)
    itself = torch.eye(len(z), dtype=torch.bool)
    logits = z @ z.T / temperature
    shares = logits - logits.masked_fill(itself, -torch.inf).logsumexp(1, keepdim=True)
    positive = (LABELS[:, None] == LABELS) & ~itself
    return -((shares * positive).sum(1) / positive.sum(1).clamp_min(1)).mean()


def dense_solo(z, temperature):
    (z,) = unit(z)
    exponentials, same = (z @ z.T / temperature).exp(), (LABELS % 3)[:, None] == LABELS % 3
    positives = (exponentials * (same & ~torch.eye(len(z), dtype=torch.bool))).sum(1)
    return -(positives / (positives + (exponentials * ~same).sum(1))).log().mean()


def dense_metric_learning(z, temperature):
    (z,) = unit(z)
    logits, same = z @ z.T / temperature, LABELS[:, None] == LABELS
    negatives = logits.masked_fill(same, -torch.inf).logsumexp(1, keepdim=True)
    return functional.softplus(negatives - logits)[same & ~torch.eye(len(z), dtype=torch.bool)].mean()


def with_bank(a, b, temperature):
    torch.manual_seed(0)
    return losses.NTXentLoss(temperature, (9, 12))(a, b)


def dense_bank(a, b, temperature):
    torch.manual_seed(0)
    return dense_queue(a, b, losses.MemoryBankModule((9, 12)).bank.to(a), temperature)


# ours (embeddings..., temperature), the same densely, number of embeddings
CASES = {
    "nt_xent": (nt_xent, reference.nt_xent, 2),
    "NTXentLoss": (lambda a, b, t: losses.NTXentLoss(t)(a, b), reference.nt_xent, 2),
    "NTXentLoss with a bank": (with_bank, dense_bank, 2),
    "info_nce": (lambda a, b, t: info_nce(a, b, temperature=t), dense_info_nce, 2),
    "info_nce with negatives": (lambda a, b, c, t: info_nce(a, b, c, t), dense_queue, 3),
    "symmetric": (
        lambda a, b, t: losses.InfoNCELoss(t, symmetric=True)(a, b),
        lambda a, b, t: (dense_info_nce(a, b, t) + dense_info_nce(b, a, t)) / 2,
        2,
    ),
    "DCLLoss": (lambda a, b, t: losses.DCLLoss(t)(a, b), dense_dcl, 2),
    "DCLWLoss": (lambda a, b, t: losses.DCLWLoss(t)(a, b), dense_dclw, 2),
    "SupConLoss": (lambda z, t: losses.SupConLoss(t)(z, LABELS), dense_supcon, 1),
    "simclr_loss_func": (lambda z, t: solo.simclr_loss_func(z, LABELS % 3, t), dense_solo, 1),
    "metric learning": (lambda z, t: metric_learning.NTXentLoss(t)(z, LABELS), dense_metric_learning, 1),
}


def gradients(loss, tensors, temperature):
    leaves = [tensor.clone().requires_grad_() for tensor in (*tensors, temperature)]
    value = loss(*leaves)
    return [value.detach(), *torch.autograd.grad(value, leaves)]


@pytest.mark.parametrize("value", [0.02, 0.07, 0.5, 10.0])
@pytest.mark.parametrize("name", CASES)
def test_gradient_by_temperature(name, value):
    ours, dense, count = CASES[name]
    tensors = embeddings(count, len(LABELS))
    temperature = torch.tensor(value)
    wanted = gradients(dense, [tensor.double() for tensor in tensors], temperature.double())
    for got, want in zip(gradients(ours, tensors, temperature), wanted, strict=True):
        assert got.shape == want.shape
        torch.testing.assert_close(got.double(), want, rtol=2e-5, atol=2e-5 * max(1, want.abs().max().item()))


# The bank is float32, and the weights of DCLW have no gradient.
@pytest.mark.parametrize("name", [name for name in CASES if name not in ("NTXentLoss with a bank", "DCLWLoss")])
def test_gradcheck(name):
    ours, _, count = CASES[name]
    tensors = [tensor.double().requires_grad_() for tensor in embeddings(count, len(LABELS), 3)]
    assert torch.autograd.gradcheck(ours, (*tensors, torch.tensor(0.3).double().requires_grad_()), fast_mode=True)


@pytest.mark.parametrize("name", CASES)
def test_a_tensor_gives_the_bits_of_a_number(name):
    ours, _, count = CASES[name]
    tensors = embeddings(count, len(LABELS))
    for temperature in (torch.tensor(0.25), nn.Parameter(torch.tensor([0.25]))):
        assert torch.equal(ours(*tensors, temperature), ours(*tensors, 0.25))


def test_logit_scale_as_in_clip():
    """The temperature is 1 / exp(logit_scale), computed anew every step; the scale grows where the task is easy."""
    logit_scale = nn.Parameter(torch.tensor(1.0))
    images, texts = embeddings(2, 16)
    texts = images + 0.1 * texts
    optimizer = torch.optim.SGD([logit_scale], lr=1.0)
    module = losses.InfoNCELoss(symmetric=True)
    found = []
    for _ in range(5):
        module.temperature = 1 / logit_scale.exp()
        loss = module(images, texts)
        assert torch.equal(loss, info_nce(images, texts, temperature=1 / logit_scale.exp(), symmetric=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    assert logit_scale > 1.5 and all(later < earlier for earlier, later in itertools.pairwise(found))


def test_a_parameter_belongs_to_the_loss():
    loss = losses.NTXentLoss(nn.Parameter(torch.tensor(0.5)))
    assert [name for name, _ in loss.named_parameters()] == ["temperature"]
    assert list(losses.NTXentLoss(0.5).parameters()) == []


def test_other_precisions_of_the_temperature():
    pair = embeddings(2)
    for dtype in (torch.float16, torch.float64):
        temperature = torch.tensor([0.5], dtype=dtype, requires_grad=True)
        loss = nt_xent(*pair, temperature)
        loss.backward()
        assert loss.dtype == torch.float32 and loss.shape == () and temperature.grad.dtype == dtype
        exact = gradients(reference.nt_xent, [z.double() for z in pair], torch.tensor(0.5).double())
        assert temperature.grad.item() == pytest.approx(exact[-1].item(), rel=1e-3)


def test_nothing_is_learnt_without_gradient():
    rows = torch.randn(3, 4)
    assert tempered(rows, 0.5) is rows and tempered(rows, torch.tensor(0.5)) is rows
    assert not nt_xent(*embeddings(2), torch.tensor(0.5)).requires_grad


@pytest.mark.parametrize(
    ("temperature", "message"),
    [
        (torch.tensor([0.1, 0.2]), r"shape \(2,\)"),
        (torch.tensor(1), "give a float"),
        (torch.tensor(0.0), "above 0"),
        (torch.tensor(torch.nan), "above 0"),
    ],
)
def test_bad_temperatures(temperature, message):
    with pytest.raises(UserError, match=message):
        nt_xent(*embeddings(2), temperature)
    with pytest.raises(UserError, match=message):
        losses.SupConLoss(temperature)
