"""DCLLoss and DCLWLoss against lightly's, and against their definition written plainly; one process."""

import warnings

import pytest
import torch
from losses.common import LOW_PRECISION, assert_equal, embeddings, value_and_gradients
from torch.nn import functional

from sslfast.errors import UserError
from sslfast.losses import DCLLoss, DCLWLoss, NTXentLoss


def plain(out0, out1, temperature, sigma=None):
    """Equation 6 image by image, in float64."""
    views = functional.normalize(torch.stack([out0, out1]).double(), dim=2)
    batch = len(out0)
    total = 0
    for k in range(2):
        agreement = (views[k] * views[1 - k]).sum(1).detach()
        for i in range(batch):
            weight = 1
            if sigma is not None:
                weight = 2 - (agreement[i] / sigma).exp() / (agreement / sigma).exp().mean()
            others = torch.cat([views[:, :i], views[:, i + 1 :]], 1).flatten(0, 1)
            total = total - weight * (views[k, i] @ views[1 - k, i]) / temperature
            total = total + (others @ views[k, i] / temperature).exp().sum().log()
    return total / (2 * batch)


@pytest.mark.parametrize("batch", [2, 3, 19])
@pytest.mark.parametrize("temperature", [0.05, 0.1, 2.0])
def test_equals_the_formula(temperature, batch):
    pair = embeddings(2, batch)
    ours = value_and_gradients(DCLLoss(temperature), *pair)
    assert_equal(ours, value_and_gradients(lambda a, b: plain(a, b, temperature), *pair))
    ours = value_and_gradients(DCLWLoss(temperature, sigma=0.3), *pair)
    assert_equal(ours, value_and_gradients(lambda a, b: plain(a, b, temperature, 0.3), *pair))


@pytest.mark.parametrize("name", ["DCLLoss", "DCLWLoss"])
@pytest.mark.parametrize("options", [{}, {"temperature": 0.5}, {"gather_distributed": True}])
def test_equals_lightly(name, options):
    theirs = getattr(pytest.importorskip("lightly.loss"), name)(**options)
    ours = {"DCLLoss": DCLLoss, "DCLWLoss": DCLWLoss}[name](**options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lightly copies a tensor the way torch advises against
        wanted = value_and_gradients(theirs, *embeddings(2))
    assert_equal(value_and_gradients(ours, *embeddings(2)), wanted)


def test_own_weights_equal_lightly():
    theirs = pytest.importorskip("lightly.loss").DCLLoss

    def weights(first, second):
        return (first - second)[:, 0].exp()  # not symmetric, and with a gradient

    ours = value_and_gradients(DCLLoss(0.1, weights), *embeddings(2))
    assert_equal(ours, value_and_gradients(theirs(0.1, weights), *embeddings(2)))


def test_positives_pull_without_bound():
    """What decoupling is for: near convergence NT-Xent's gradient fades with the positive's share, DCL's does not."""
    generator = torch.Generator().manual_seed(0)
    out0 = torch.randn(64, 32, generator=generator)
    out1 = out0 + 0.1 * torch.randn(64, 32, generator=generator)
    fading = value_and_gradients(NTXentLoss(0.05), out0, out1)[1].norm()
    decoupled = value_and_gradients(DCLLoss(0.05), out0, out1)[1].norm()
    assert decoupled > 100 * fading


@pytest.mark.parametrize("dtype", LOW_PRECISION)
def test_low_precision(dtype):
    pair = [out.to(dtype) for out in embeddings(2)]
    ours = value_and_gradients(DCLWLoss(), *pair)
    assert ours[0].dtype == torch.float32 and ours[1].dtype == dtype
    exact = value_and_gradients(DCLWLoss(), *(out.double() for out in pair))
    torch.testing.assert_close(ours[0].double(), exact[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours[1].double(), exact[1], rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize(
    ("out0", "out1", "message"),
    [
        (torch.ones(3, 4), torch.ones(2, 4), "same shape"),
        (torch.ones(3, 4), torch.ones(3, 4).half(), "float16"),
        (torch.ones(3, 4).long(), torch.ones(3, 4).long(), r"\.float\(\)"),
        (torch.ones(3, 4, 5), torch.ones(3, 4, 5), "2 dimensions"),
        (torch.ones(0, 4), torch.ones(0, 4), "empty"),
        (torch.ones(1, 4), torch.ones(1, 4), "at least two"),
    ],
)
def test_bad_projections(out0, out1, message):
    with pytest.raises(UserError, match=message):
        DCLLoss()(out0, out1)


def test_bad_options():
    with pytest.raises(UserError, match="temperature"):
        DCLLoss(0)
    with pytest.raises(UserError, match="sigma"):
        DCLWLoss(sigma=0)
    with pytest.raises(UserError, match="one weight for each of the 19 rows"):
        DCLLoss(weight_fn=lambda a, b: a)(*embeddings(2))
