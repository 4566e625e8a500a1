"""Batch norm over all ranks: which methods want it, and that nothing else changes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sslfast.methods import build
from sslfast.train.batch_norm import synchronise_batch_norm


def kinds(module: nn.Module) -> set[type]:
    return {type(part) for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)}


@pytest.mark.parametrize("name", ["simclr", "byol", "simsiam", "supcon", "nnclr"])
def test_statistics_of_all_ranks(name: str) -> None:
    method = build(name, backbone="resnet10_narrow")
    parameters, state = list(method.parameters()), method.state_dict()
    synchronise_batch_norm(method, "cuda", 2)
    assert kinds(method) == {nn.SyncBatchNorm}
    assert all(before is after for before, after in zip(parameters, method.parameters(), strict=True))
    assert method.state_dict().keys() == state.keys()
    if name == "byol":  # the target goes on following the encoder
        method.after_step(1, 2)
    with torch.no_grad():
        method.eval().backbone(torch.zeros(2, 3, 32, 32))


@pytest.mark.parametrize(
    ("name", "device", "world_size"),
    [("simclr", "cuda", 1), ("simclr", "cpu", 2), ("moco", "cuda", 2), ("rotation", "cuda", 2)],
)
def test_statistics_of_each_rank(name: str, device: str, world_size: int) -> None:
    """MoCo shuffles instead; a CPU has no other."""
    method = build(name, backbone="resnet10_narrow")
    synchronise_batch_norm(method, device, world_size)
    assert nn.SyncBatchNorm not in kinds(method)
