"""Every method: two runs give equal bits, and a run goes on exactly from its state dictionary."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from sslfast import registry
from sslfast.data.batch import ImageBatch
from sslfast.methods import Method, build

STEPS = 4


def _train(method: Method, optimizer: torch.optim.Optimizer, batch: ImageBatch, first: int, last: int) -> None:
    for step in range(first, last + 1):
        loss = method(method.views(batch, step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(step, STEPS)


def _fresh(name: str, seed: int) -> tuple[Method, torch.optim.Optimizer]:
    method = build(name, backbone="resnet10_narrow", seed=seed)
    return method, torch.optim.SGD(method.parameters(), lr=0.05, momentum=0.9)


def _assert_equal(state: dict[str, Any], other: dict[str, Any]) -> None:
    assert state.keys() == other.keys()
    for name, value in state.items():
        assert torch.equal(value, other[name]), name


@pytest.mark.parametrize("name", list(registry.METHODS))
def test_goes_on_exactly_from_the_state_dictionary(name: str, blobs: ImageBatch) -> None:
    method, optimizer = _fresh(name, seed=0)
    _train(method, optimizer, blobs, 1, 2)
    saved = copy.deepcopy((method.state_dict(), optimizer.state_dict()))
    _train(method, optimizer, blobs, 3, STEPS)

    again, its_optimizer = _fresh(name, seed=0)
    _train(again, its_optimizer, blobs, 1, STEPS)
    _assert_equal(again.state_dict(), method.state_dict())

    resumed, its_optimizer = _fresh(name, seed=1)  # other weights, all of which the state must replace
    resumed.multi_view.seed = method.multi_view.seed
    resumed.load_state_dict(saved[0])
    its_optimizer.load_state_dict(saved[1])
    _train(resumed, its_optimizer, blobs, 3, STEPS)
    _assert_equal(resumed.state_dict(), method.state_dict())
