"""SoftCrossEntropyLoss against torch's cross-entropy with dense soft labels."""

import pytest
import torch
from losses.common import LOW_PRECISION, assert_equal, under_autocast, value_and_gradients
from torch.nn import functional

from sslfast.errors import UserError
from sslfast.losses import SoftCrossEntropyLoss
from sslfast.ops import ab_bins, lab_soft_encode


def case(batch=2, classes=313, height=4, width=5, neighbours=5, seed=0):
    """Logits (B, Q, h, w), indices and weights (B, K, h, w)."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, classes, height, width, generator=generator)
    order = torch.rand(batch, classes, height, width, generator=generator).argsort(1)
    weights = torch.rand(batch, neighbours, height, width, generator=generator).sort(1, descending=True).values
    return logits, order[:, :neighbours].contiguous(), weights / weights.sum(1, keepdim=True)


def dense(indices, weights, classes):
    shape = (len(indices), classes, *indices.shape[2:])
    return torch.zeros(shape, dtype=torch.float64).scatter_(1, indices, weights.double())


def plain(logits, indices, weights, class_weights=None):
    """Equation 2 with the dense labels; the rebalancing term v is that of the most likely class."""
    labels = dense(indices, weights, logits.shape[1])
    pixels = -(labels * logits.double().log_softmax(1)).sum(1)
    if class_weights is not None:
        pixels = class_weights.double()[labels.argmax(1)] * pixels
    return pixels.mean()


@pytest.mark.parametrize("rebalanced", [False, True])
@pytest.mark.parametrize("neighbours", [1, 5, 10])
def test_equals_the_formula(rebalanced, neighbours):
    logits, indices, weights = case(neighbours=neighbours)
    class_weights = torch.rand(313, generator=torch.Generator().manual_seed(1)) + 0.1 if rebalanced else None
    loss = SoftCrossEntropyLoss(class_weights)
    assert_equal(
        value_and_gradients(lambda z: loss(z, indices, weights), logits),
        value_and_gradients(lambda z: plain(z, indices, weights, class_weights), logits),
    )


def test_equals_torch():
    logits, indices, weights = case()
    labels = dense(indices, weights, 313)
    assert_equal(
        value_and_gradients(lambda z: SoftCrossEntropyLoss()(z, indices, weights), logits.double()),
        value_and_gradients(lambda z: functional.cross_entropy(z, labels, reduction="sum") / 40, logits.double()),
        atol=1e-9,
    )


def test_hard_labels_are_a_special_case():
    logits, indices, _ = case(neighbours=1)
    assert_equal(
        value_and_gradients(lambda z: SoftCrossEntropyLoss()(z, indices, torch.ones(indices.shape)), logits),
        value_and_gradients(lambda z: functional.cross_entropy(z, indices[:, 0]), logits),
    )


def test_classes_that_repeat():
    """Weights of one class add up, in the loss and in the gradient."""
    logits, indices, weights = case()
    indices = indices[:, :1].expand_as(indices).contiguous()
    assert_equal(
        value_and_gradients(lambda z: SoftCrossEntropyLoss()(z, indices, weights), logits),
        value_and_gradients(lambda z: functional.cross_entropy(z, indices[:, 0]), logits),
    )


def test_gradcheck():
    logits, indices, weights = case(1, 7, 2, 2, 3)
    loss = SoftCrossEntropyLoss(torch.linspace(0.5, 2, 7))
    assert torch.autograd.gradcheck(lambda z: loss(z, indices, weights), logits.double().requires_grad_())


# torch compiles its own forward mode with what it deprecates.
@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_differentiable_once_in_reverse_mode():
    """What autograd would take for constant is refused."""
    logits, indices, weights = case(1, 7, 2, 2, 3)
    loss = SoftCrossEntropyLoss()
    (gradient,) = torch.autograd.grad(loss(logits.requires_grad_(), indices, weights), logits, create_graph=True)
    with pytest.raises(UserError, match="differentiable once"):
        gradient.square().sum().backward()
    logits = logits.detach()
    with pytest.raises(UserError, match="in reverse mode"):
        torch.func.jvp(lambda z: loss(z, indices, weights), (logits,), (logits,))
    with pytest.raises(UserError, match="use backward"):
        torch.func.grad(lambda z: loss(z, indices, weights))(logits)


@pytest.mark.parametrize("shape", [(), (6,), (2, 3, 4)])
def test_any_dimensions(shape):
    logits, indices, weights = case(24, 9, 1, 1, 3)
    expected = SoftCrossEntropyLoss()(logits, indices, weights)
    batch = 24 // torch.Size(shape).numel()
    tensors = [
        x.view(batch, -1, x.shape[1]).movedim(2, 1).reshape(batch, x.shape[1], *shape)
        for x in (logits, indices, weights)
    ]
    torch.testing.assert_close(SoftCrossEntropyLoss()(*tensors), expected)


def test_keeps_nothing_as_large_as_the_logits_but_them():
    logits, indices, weights = case(2, 313, 8, 8)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        loss = SoftCrossEntropyLoss()(logits.requires_grad_(), indices, weights)
    large = [x for x in kept if x.numel() >= logits.numel()]
    assert {x.data_ptr() for x in large} == {logits.data_ptr()}
    loss.backward()


@pytest.mark.parametrize("dtype", LOW_PRECISION)
def test_low_precision(dtype):
    logits, indices, weights = case()
    logits = logits.to(dtype)
    ours = value_and_gradients(lambda z: SoftCrossEntropyLoss()(z, indices, weights), logits)
    exact = value_and_gradients(lambda z: plain(z, indices, weights), logits.double())
    assert ours[0].dtype == torch.float32 and ours[1].dtype == dtype
    torch.testing.assert_close(ours[0].double(), exact[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours[1].double(), exact[1], rtol=1e-2, atol=1e-4)
    torch.testing.assert_close(under_autocast(lambda z: SoftCrossEntropyLoss()(z, indices, weights))(logits), ours[0])


def test_large_logits_do_not_overflow():
    logits, indices, weights = case()
    value, grad = value_and_gradients(lambda z: SoftCrossEntropyLoss()(1e4 * z, indices, weights), logits)
    assert value.isfinite() and grad.isfinite().all()


def test_learns_the_colours_of_images():
    """Targets of images; the least loss is the entropy of the labels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 8, 8, generator=generator)
    indices, weights = lab_soft_encode(images, (4, 4))
    logits = dense(indices, weights, len(ab_bins())).clamp_min(1e-30).log()
    entropy = -(weights.double() * weights.double().log()).sum(1).mean()
    torch.testing.assert_close(SoftCrossEntropyLoss()(logits, indices, weights), entropy, rtol=1e-5, atol=1e-6)


# torch 2.15's opcheck looks at .grad of its own copies of the arguments, which are no leaves.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_registration():
    """Fakes and autograd are as torch expects, for logits in any layout."""
    logits, indices, weights = case(2, 7, 3, 4, 2)
    for like in (logits, logits.bfloat16(), logits.to(memory_format=torch.channels_last)):
        z = like.detach().clone().requires_grad_()
        torch.library.opcheck(torch.ops.sslfast.sparse_cross_entropy, (z, indices, weights))
    _, total = torch.ops.sslfast.sparse_cross_entropy(logits.detach(), indices, weights)
    arguments = (torch.ones(()), logits.detach().to(memory_format=torch.channels_last), indices, weights, total)
    torch.library.opcheck(torch.ops.sslfast.sparse_cross_entropy_backward, arguments)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gradient_has_the_layout_of_the_logits(memory_format):
    """Convolutions in channels_last need not turn it around."""
    logits, indices, weights = case()
    logits = logits.to(memory_format=memory_format)
    _, total = torch.ops.sslfast.sparse_cross_entropy(logits, indices, weights)
    arguments = (torch.ones(()), logits, indices, weights, total)
    assert torch.ops.sslfast.sparse_cross_entropy_backward(*arguments).is_contiguous(memory_format=memory_format)


def test_compiles_without_graph_break():
    torch.compiler.reset()
    logits, indices, weights = case()
    loss = SoftCrossEntropyLoss(torch.ones(313))
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    assert_equal(
        value_and_gradients(lambda z: compiled(z, indices, weights), logits),
        value_and_gradients(lambda z: loss(z, indices, weights), logits),
    )


def test_class_weights_move_with_the_module():
    assert SoftCrossEntropyLoss(torch.ones(3)).double().class_weights.dtype == torch.float64


LOGITS, INDICES, WEIGHTS = case(2, 6, 3, 3, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": LOGITS.long()}, r"\.float\(\)"),
        ({"indices": INDICES.int()}, r"\.long\(\)"),
        ({"weights": WEIGHTS[:, :1]}, "one shape"),
        ({"logits": LOGITS[..., :2]}, "agree in all but"),
        ({"logits": LOGITS[:1]}, "agree in all but"),
        ({"logits": LOGITS[:, :5]}, "6 class_weights for logits of 5 classes"),
        ({"indices": INDICES + 400}, r"indices holds classes from 400 to 40\d, and they are 0 to 5; give logits"),
        ({"indices": INDICES - 1}, "indices holds classes from -1"),
        ({"indices": [[1]]}, "indices must be a tensor, got a list"),
        ({"indices": INDICES[:, :0], "weights": WEIGHTS[:, :0]}, "empty"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(UserError, match=message):
        SoftCrossEntropyLoss(torch.ones(6))(**({"logits": LOGITS, "indices": INDICES, "weights": WEIGHTS} | change))


def test_bad_class_weights():
    with pytest.raises(UserError, match="class_weights must have shape"):
        SoftCrossEntropyLoss(torch.ones(1, 313))
    with pytest.raises(UserError, match="class_weights must be a tensor, got a list"):
        SoftCrossEntropyLoss([1, 2])
