"""What every contrastive loss does with embeddings that are no ordinary ones: the same defined results for all."""

import pytest
import torch
from losses.common import embeddings, value_and_gradients
from torch.nn import functional

from sslfast import losses
from sslfast.compat import metric_learning, solo
from sslfast.errors import UserError

LABELS = torch.arange(20) % 6


def family(temperature):
    """Contrastive losses of two views (20, d), by name."""
    supcon, pairs = losses.SupConLoss(temperature), metric_learning.NTXentLoss(temperature)
    return {
        "NTXentLoss": losses.NTXentLoss(temperature),
        "NTXentLoss with a bank": losses.NTXentLoss(temperature, memory_bank_size=(30, 8)),
        "InfoNCELoss": losses.InfoNCELoss(temperature),
        "InfoNCELoss symmetric": losses.InfoNCELoss(temperature, symmetric=True),
        "InfoNCELoss with negatives": lambda a, b: losses.InfoNCELoss(temperature)(a, b, b.detach().flip(0)),
        "DCLLoss": losses.DCLLoss(temperature),
        "DCLWLoss": losses.DCLWLoss(temperature),
        "SupConLoss": lambda a, b: supcon(torch.stack([a, b], 1), LABELS),
        "simclr_loss_func": lambda a, b: solo.simclr_loss_func(torch.cat([a, b]), LABELS.repeat(2), temperature),
        "metric learning": lambda a, b: pairs(torch.cat([a, b]), LABELS.repeat(2)),
    }


NAMES = list(family(0.1))


def views():
    return embeddings(2, 20, 8)


@pytest.mark.parametrize("temperature", [0.01, 0.1, 10.0])
@pytest.mark.parametrize("kind", ["duplicates", "one hot", "zeros", "some zeros", "tiny", "huge"])
@pytest.mark.parametrize("name", NAMES)
def test_loss_and_gradient_are_finite(name, kind, temperature):
    a, b = views()
    one_hot = functional.one_hot(torch.arange(20) % 8, 8).float()
    some_zeros = torch.where(torch.arange(20)[:, None] % 3 == 0, 0, a)
    a, b = {
        "duplicates": (torch.ones_like(a), torch.ones_like(b)),
        "one hot": (one_hot, one_hot),
        "zeros": (0 * a, 0 * b),
        "some zeros": (some_zeros, b),
        "tiny": (1e-9 * a, b),
        "huge": (1e25 * a, b),
    }[kind]
    loss, *gradients = value_and_gradients(family(temperature)[name], a, b)
    assert loss.isfinite() and all(gradient.isfinite().all() for gradient in gradients)
    if "zeros" in kind:
        assert gradients[0][a.eq(0).all(1)].count_nonzero() == 0


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("name", NAMES)
def test_not_a_number_is_not_hidden(name, bad):
    a, b = views()
    a[3, 2] = bad
    assert family(0.1)[name](a, b).isnan()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_autocast_gives_no_nan(name, dtype):
    torch.manual_seed(0)
    projector = torch.nn.Linear(8, 8)
    with torch.autocast("cpu", dtype=dtype):
        out = [projector(100 * view) for view in views()]
        assert out[0].dtype == dtype
        loss = family(0.01)[name](*out)
    loss.backward()
    assert loss.dtype == torch.float32 and loss.isfinite()
    assert projector.weight.grad.isfinite().all() and projector.weight.grad.count_nonzero() > 0


# torch compiles its own forward mode with what it deprecates.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
@pytest.mark.parametrize("name", NAMES)
def test_differentiable_once_in_reverse_mode(name):
    """What autograd would take for constant is refused; the first gradient with create_graph is not."""
    loss, (a, b) = family(0.1)[name], views()
    a.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(a, b), a, create_graph=True)
    assert gradient.count_nonzero() > 0
    with pytest.raises(UserError, match="differentiable once"):
        gradient.square().sum().backward()
    a = a.detach()
    with pytest.raises(UserError, match="in reverse mode"):
        torch.func.jacfwd(lambda a: loss(a, b))(a)
    # torch refuses for itself where a bank is written.
    with pytest.raises((UserError, RuntimeError), match=r"torch\.func\.grad.* do not go through it|mutate a captured"):
        torch.func.grad(lambda a: loss(a, b))(a)
    with torch.autograd.forward_ad.dual_level(), pytest.raises(UserError, match="in reverse mode"):
        loss(torch.autograd.forward_ad.make_dual(a, a), b)


@pytest.mark.parametrize("name", NAMES)
def test_two_runs_give_equal_bits(name):
    runs = []
    for _ in range(2):
        torch.manual_seed(0)  # the memory bank starts from the random stream
        runs.append(value_and_gradients(family(0.1)[name], *views()))
    assert all(map(torch.equal, *runs))
