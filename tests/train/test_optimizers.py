from __future__ import annotations

import pytest
import torch
from torch import nn

from sslfast.errors import UserError
from sslfast.train import resolve
from sslfast.train.optimizers import build_optimizer


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)).double()


def weights_of(module: nn.Module) -> set[int]:
    return {id(module[0].weight), id(module[2].weight)}


@pytest.mark.parametrize(("name", "everything"), [("sgd", True), ("adam", True), ("adamw", False), ("lars", False)])
def test_biases_and_norms_are_decayed_by_sgd_and_adam_alone(tiny, name, everything):
    config = resolve(tiny(optimizer=name, learning_rate=0.1, weight_decay=0.5))
    module = network()
    groups = build_optimizer(config, module.parameters()).param_groups
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    assert decayed == ({id(p) for p in module.parameters()} if everything else weights_of(module))
    assert {id(p) for group in groups for p in group["params"]} == {id(p) for p in module.parameters()}


def test_sgd_is_torch_s_with_weight_decay_on_all_parameters(tiny):
    """The optimiser of MoCo's, SimSiam's, SupCon's and RotNet's code."""
    module, expected = network(), network()
    config = resolve(tiny(optimizer="sgd", learning_rate=0.1, momentum=0.9, weight_decay=0.05))
    ours = build_optimizer(config, module.parameters())
    theirs = torch.optim.SGD(expected.parameters(), lr=0.1, momentum=0.9, weight_decay=0.05)
    for _ in range(3):
        images = torch.randn(6, 5, dtype=torch.float64)
        for optimizer, net in ((ours, module), (theirs, expected)):
            optimizer.zero_grad()
            net(images).square().sum().backward()
            optimizer.step()
    for p, q in zip(module.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(p, q)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_lars_follows_its_formula(tiny, weight_decay):
    config = resolve(tiny(optimizer="lars", learning_rate=0.7, momentum=0.9, weight_decay=weight_decay))
    module, expected = network(), [p.detach().clone() for p in network().parameters()]
    optimizer = build_optimizer(config, module.parameters())
    velocities = [torch.zeros_like(p) for p in expected]
    for _ in range(3):
        images = torch.randn(6, 5, dtype=torch.float64)
        optimizer.zero_grad()
        module(images).square().sum().backward()
        gradients = [p.grad.clone() for p in module.parameters()]
        optimizer.step()
        for p, v, g in zip(expected, velocities, gradients, strict=True):
            if p.dim() > 1:  # You et al. 2017, equation 6 with weight decay
                g = (g + weight_decay * p) * 0.001 * p.norm() / (g.norm() + weight_decay * p.norm())
            v.mul_(0.9).add_(g)
            p.sub_(0.7 * v)
    for p, q in zip(module.parameters(), expected, strict=True):
        torch.testing.assert_close(p.detach(), q, rtol=1e-6, atol=1e-9)


def test_frozen_parameters_are_left_out(tiny):
    module = network()
    module[0].requires_grad_(False)
    optimizer = build_optimizer(resolve(tiny()), module.parameters())
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 4
    module.requires_grad_(False)
    with pytest.raises(UserError, match="no parameter that trains"):
        build_optimizer(resolve(tiny()), module.parameters())


@pytest.mark.parametrize("name", ["sgd", "adamw", "lars"])
def test_groups_keep_their_settings(tiny, name):
    module = network()
    groups = [{"params": module[:2].parameters()}, {"params": module[2].parameters(), "constant_learning_rate": True}]
    found = build_optimizer(resolve(tiny(optimizer=name, learning_rate=0.1, weight_decay=0.5)), groups).param_groups
    marked = {id(p) for group in found if group.get("constant_learning_rate") for p in group["params"]}
    assert marked == {id(p) for p in module[2].parameters()}
    decayed = {id(p) for group in found if group["weight_decay"] for p in group["params"]}
    assert decayed == ({id(p) for p in module.parameters()} if name == "sgd" else weights_of(module))
    assert sum(len(group["params"]) for group in found) == 6
    if name == "lars":
        assert [group["always_adapt"] for group in found] == [True, False, True, False]
