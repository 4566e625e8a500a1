"""MomentumEncoder: the moving average in float64, the cosine in numbers, and what it leaves alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sslfast.errors import UserError
from sslfast.models import MomentumEncoder


def _encoder() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU()), nn.Linear(4, 3)


def _disturb(*modules: nn.Module) -> None:
    for module in modules:
        for parameter in module.parameters():
            parameter.data += torch.randn_like(parameter)


def test_starts_as_a_copy_without_gradient() -> None:
    backbone, head = _encoder()
    slow = MomentumEncoder(backbone, head, momentum=0.9)
    images = torch.randn(6, 5, requires_grad=True)
    encoded = slow(images)
    assert torch.equal(encoded, head(backbone(images))) and not encoded.requires_grad
    assert not any(parameter.requires_grad for parameter in slow.parameters())
    assert all(parameter.requires_grad for module in (backbone, head) for parameter in module.parameters())


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.999, 1.0])
def test_follows_as_a_moving_average(momentum: float) -> None:
    backbone, head = _encoder()
    slow = MomentumEncoder(backbone, head, momentum=momentum)
    expected = [parameter.double().clone() for parameter in slow.parameters()]
    for step in range(1, 4):
        _disturb(backbone, head)
        slow.update(step, 3)
        fast = [parameter.double() for module in (backbone, head) for parameter in module.parameters()]
        expected = [momentum * old + (1 - momentum) * new for old, new in zip(expected, fast, strict=True)]
    for parameter, value in zip(slow.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.double(), value, rtol=1e-6, atol=1e-6)


def test_cosine_ends_at_one() -> None:
    slow = MomentumEncoder(nn.Linear(1, 1), momentum=0.996, cosine=True)
    # 1 - 0.004 (cos(pi k / 4) + 1) / 2 for k = 0 ... 3, and at the end.
    expected = [0.996, 0.9965857864, 0.998, 0.9994142136, 1.0]
    assert [slow.momentum_at(step, 4) for step in range(1, 6)] == pytest.approx(expected, abs=1e-9)
    assert MomentumEncoder(nn.Linear(1, 1), momentum=0.996).momentum_at(3, 4) == 0.996


def test_batch_norm_keeps_its_own_statistics() -> None:
    backbone, head = _encoder()
    slow = MomentumEncoder(backbone, head, momentum=0.5)
    images = torch.randn(64, 5) + 3
    slow(images)
    seen = {name: value.clone() for name, value in slow.named_buffers()}
    fast = dict(backbone.named_buffers())
    assert seen["layers.0.1.num_batches_tracked"] == 1 and fast["1.num_batches_tracked"] == 0
    slow.update(1, 2)
    assert all(torch.equal(value, seen[name]) for name, value in slow.named_buffers())
    assert not fast["1.running_mean"].any()


class Both(nn.Module):
    """An encoder with its momentum encoder, as a method holds them."""

    def __init__(self) -> None:
        super().__init__()
        self.fast = nn.Linear(3, 2)
        self.slow = MomentumEncoder(self.fast, momentum=0.5)


def test_the_encoder_stands_once_in_the_state_dictionary() -> None:
    assert set(Both().state_dict()) == {"fast.weight", "fast.bias", "slow.layers.0.weight", "slow.layers.0.bias"}


def test_a_copy_follows_its_own_encoder() -> None:
    original = Both()
    twin = copy.deepcopy(original)
    before = original.slow.layers[0].weight.clone()
    _disturb(twin.fast)
    expected = (twin.slow.layers[0].weight + twin.fast.weight) / 2
    twin.slow.update(1, 2)
    torch.testing.assert_close(twin.slow.layers[0].weight, expected)
    original.slow.update(1, 2)
    assert torch.equal(original.slow.layers[0].weight, before)  # its encoder has not moved


def test_follows_an_encoder_that_changes_its_type() -> None:
    both = Both().double()
    _disturb(both.fast)
    both.slow.update(1, 2)
    assert both.slow.layers[0].weight.dtype == torch.float64


@pytest.mark.parametrize("momentum", [-0.1, 1.1, float("nan")])
def test_bad_momentum(momentum: float) -> None:
    with pytest.raises(UserError, match=r"it must be in \[0, 1\]"):
        MomentumEncoder(nn.Linear(1, 1), momentum=momentum)
