"""lightly's names: the same heads, helpers and schedule, and views that its data sets hand on."""

import importlib
import inspect

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sslfast.compat.lightly import loss, transforms
from sslfast.compat.lightly.models import modules, utils
from sslfast.compat.lightly.utils.scheduler import cosine_schedule
from sslfast.compat.torch import DataLoader
from sslfast.errors import UserError

HEADS = [name for name in modules.__all__ if name.endswith("Head")]


def peer(module):
    pytest.importorskip("lightly")
    return importlib.import_module(f"lightly.{module}")


@pytest.mark.parametrize(
    ("module", "names"),
    [("loss", loss.__all__), ("transforms", transforms.__all__), ("models.modules", modules.__all__)],
)
def test_every_name_is_lightly_s(module, names):
    assert set(names) <= set(dir(peer(module)))


@pytest.mark.parametrize("name", HEADS)
def test_heads_are_the_same_networks(name):
    """Signature, initial weights, state dict, output and gradients."""
    ours, theirs = (getattr(library, name) for library in (modules, peer("models.modules")))
    expected = {n: p.default for n, p in inspect.signature(theirs).parameters.items()}
    assert {n: p.default for n, p in inspect.signature(ours).parameters.items()} == expected
    images = torch.randn(8, 12, generator=torch.Generator().manual_seed(0))
    for extra in (
        [{}, {"num_layers": 3}, {"batch_norm": not expected["batch_norm"]}] if "num_layers" in expected else [{}]
    ):
        outputs, heads = [], []
        for head in (ours, theirs):
            torch.manual_seed(0)
            heads.append(head(input_dim=12, hidden_dim=16, output_dim=10, **extra))
            outputs.append(heads[-1](images))
            outputs[-1].square().sum().backward()
        assert outputs[0].equal(outputs[1])
        assert [(n, p.shape) for n, p in heads[0].named_parameters()] == [
            (n, p.shape) for n, p in heads[1].named_parameters()
        ]
        states = [head.state_dict() for head in heads]
        assert states[0].keys() == states[1].keys()
        assert all(states[0][key].equal(states[1][key]) for key in states[0])
        for mine, other in zip(heads[0].parameters(), heads[1].parameters(), strict=True):
            torch.testing.assert_close(mine.grad, other.grad)


@pytest.mark.parametrize("name", HEADS)
def test_heads_are_called_alike(name):
    theirs = inspect.signature(getattr(peer("models.modules"), name).forward)
    assert list(inspect.signature(getattr(modules, name).forward).parameters) == list(theirs.parameters)
    head = getattr(modules, name)(4, 5, 6).eval()
    x = torch.randn(3, 4)
    assert head(x=x).equal(head(x))


def test_update_momentum():
    torch.manual_seed(0)
    model, slow = nn.Linear(3, 2), nn.Linear(3, 2)
    expected = [0.9 * b + 0.1 * a for a, b in zip(model.parameters(), slow.parameters(), strict=True)]
    utils.deactivate_requires_grad(slow)
    utils.update_momentum(model, slow, 0.9)
    for parameter, value in zip(slow.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter, value.detach())
        assert not parameter.requires_grad
    utils.activate_requires_grad(slow)
    assert all(parameter.requires_grad for parameter in slow.parameters())


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("period", [None, 1, 5])
@pytest.mark.filterwarnings("ignore:Current step number")
def test_cosine_schedule(steps, period):
    theirs = peer("utils.scheduler").cosine_schedule
    for step in range(9):
        assert cosine_schedule(step, steps, 0.99, 1.0, period) == pytest.approx(theirs(step, steps, 0.99, 1.0, period))


@pytest.mark.parametrize(("step", "period"), [(-1, None), (0, 0)])
def test_cosine_schedule_of_bad_numbers(step, period):
    with pytest.raises(UserError, match="counts from 0"):
        cosine_schedule(step, 10, 0.9, 1.0, period)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 2])
def test_lightly_dataset(tmp_path, workers):
    """Its file names and labels stand beside the views, and the folder's images have several sizes."""
    data = peer("data")
    for label, folder in enumerate(("a", "b")):
        (tmp_path / folder).mkdir()
        for i in range(3):
            noise = np.random.default_rng(i).integers(0, 256, (20 + i, 30 + label, 3), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / folder / f"{i}.png")
    dataset = data.LightlyDataset(str(tmp_path), transform=transforms.SimCLRTransform(16))
    batches = list(DataLoader(dataset, 4, num_workers=workers))
    views, labels, names = batches[0]
    assert [view.shape for view in views] == [(4, 3, 16, 16)] * 2
    assert labels.tolist() == [0, 0, 0, 1]
    assert list(names) == ["a/0.png", "a/1.png", "a/2.png", "b/0.png"]
    assert batches[1][0][0].shape == (2, 3, 16, 16)
