from __future__ import annotations

import math

import pytest
import torch

from sslfast.train import resolve
from sslfast.train.schedules import Schedule


def schedule_of(config):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=config.learning_rate)
    return optimizer, Schedule(config, optimizer, steps_per_epoch=4)


def rates(config, steps):
    optimizer, schedule = schedule_of(config)
    result = []
    for _ in range(steps):
        result.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.after_step()
    return result


def test_cosine_after_linear_warmup(tiny):
    found = rates(resolve(tiny(epochs=5, warmup_epochs=1.5, learning_rate=2.0)), 20)
    warmup = [2.0 * k / 6 for k in range(1, 7)]
    falling = [1.0 + math.cos(math.pi * k / 14) for k in range(14)]
    assert found == pytest.approx(warmup + falling)


def test_constant_after_linear_warmup(tiny):
    found = rates(resolve(tiny(epochs=5, warmup_epochs=1, schedule="constant", learning_rate=2.0)), 8)
    assert found == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0, 2.0])


def test_exponential_divides_by_ten_after_every_epoch(tiny):
    config = tiny(epochs=3, schedule="exponential", learning_rate=2.0)
    assert rates(resolve(config), 12) == pytest.approx([2.0] * 4 + [0.2] * 4 + [0.02] * 4)
    config = tiny(epochs=3, schedule="exponential", learning_rate=2.0, warmup_epochs=1.5)
    warmup = [k / 3 for k in range(1, 5)] + [1 / 6, 0.2]
    assert rates(resolve(config), 12) == pytest.approx(warmup + [0.2] * 2 + [0.02] * 4)


def test_step_divides_by_ten_at_every_milestone(tiny):
    config = resolve(tiny(epochs=5, warmup_epochs=0.5, schedule="step", milestones=[1, 2.5], learning_rate=2.0))
    assert rates(config, 13) == pytest.approx([1.0, 2.0, 2.0, 2.0] + [0.2] * 6 + [0.02] * 3)


@pytest.mark.parametrize("name", ["cosine", "step", "plateau"])
def test_a_group_of_constant_rate_is_left_out(tiny, name):
    config = resolve(tiny(epochs=5, schedule=name, milestones=[1] if name == "step" else [], learning_rate=2.0))
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(2)]
    groups[1]["constant_learning_rate"] = True
    optimizer = torch.optim.SGD(groups, lr=config.learning_rate)
    schedule = Schedule(config, optimizer, steps_per_epoch=1)
    for _ in range(8):
        optimizer.step()
        schedule.after_step()
        schedule.after_epoch(1.0)
    assert optimizer.param_groups[0]["lr"] <= 0.2 and optimizer.param_groups[1]["lr"] == 2.0


def test_plateau_divides_by_ten_after_five_epochs_without_improvement(tiny):
    optimizer, schedule = schedule_of(resolve(tiny(schedule="plateau", learning_rate=1.0)))
    found = []
    for loss in [5.0, 4.0, 4.0, 4.1, 4.2, 4.0, 4.0, 3.9, 3.9, 3.9, 3.9, 3.9, 3.9]:
        optimizer.step()
        schedule.after_step()
        schedule.after_epoch(loss)
        found.append(optimizer.param_groups[0]["lr"])
    assert found == pytest.approx([1.0] * 6 + [0.1] * 6 + [0.01])


@pytest.mark.parametrize("name", ["cosine", "exponential", "step", "constant", "plateau"])
def test_state_continues_where_it_was(tiny, name):
    config = resolve(tiny(epochs=5, schedule=name, milestones=[1.5] if name == "step" else []))
    straight, schedule = schedule_of(config)
    losses = [1.0] * 9
    for number, loss in enumerate(losses):
        if number == 4:
            resumed, other = schedule_of(config)
            resumed.load_state_dict(straight.state_dict())
            other.load_state_dict(schedule.state_dict())
        for optimizer, item in [(straight, schedule)] if number < 4 else [(straight, schedule), (resumed, other)]:
            optimizer.step()
            item.after_step()
            item.after_epoch(loss)
    assert straight.param_groups[0]["lr"] == resumed.param_groups[0]["lr"]
    if name != "constant":
        assert straight.param_groups[0]["lr"] < config.learning_rate
