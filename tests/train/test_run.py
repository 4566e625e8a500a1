from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from sslfast.augment import MultiView, presets
from sslfast.errors import UserError
from sslfast.registry import resolve as find
from sslfast.train import load_run, pretrain


@pytest.fixture
def run(tiny):
    return pretrain(tiny(epochs=1))


def test_a_run_opens_with_its_weights(run, weights):
    opened = load_run(str(run))
    assert opened.path == run and opened.config.epochs == 1
    method, saved = opened.method(), weights(run)
    assert all(torch.equal(value, saved[name]) for name, value in method.state_dict().items())
    assert not method.training and not opened.backbone().training
    assert opened.evaluation_view() == presets.plain(8)[0]
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(opened.backbone()(images), method.backbone(images))


def test_backbone_file_says_how_to_use_it(run):
    backbone = load_run(run).backbone()
    with safe_open(run / "backbone.safetensors", "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert tensors.keys() == backbone.state_dict().keys()
    assert all(torch.equal(value, tensors[name]) for name, value in backbone.state_dict().items())
    view = presets.plain(8)[0]
    assert metadata["backbone"] == "train.tiny:TinyBackbone" and metadata["method"] == "train.tiny:Brightness"
    assert (int(metadata["image_size"]), int(metadata["in_channels"])) == (8, 3)
    assert (tuple(json.loads(metadata["mean"])), tuple(json.loads(metadata["std"]))) == (view.mean, view.std)


def read_picture(path):
    with Image.open(path) as file:
        return torch.from_numpy(np.array(file.convert("RGB"))).permute(2, 0, 1)


def test_pictures_are_back_in_colours(run):
    images = find("data", "train.tiny:Dots")().read()
    views = MultiView([presets.plain(8)[0].replace(hflip=0.5)], seed=0)(images.select(torch.arange(8)))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (views_mean(), views_std()))
    expected = (views.tensors[0] * std + mean).clamp(0, 1)
    picture = read_picture(run / "pictures" / "views.png")
    assert picture.shape == (3, 12, 8 * 10 + 2)  # eight images of 8 px, 2 px around each
    for column in range(8):
        found = picture[:, 2:10, 2 + 10 * column : 10 + 10 * column].float() / 255
        torch.testing.assert_close(found, expected[column], rtol=0, atol=0.51 / 255)
    gray = read_picture(run / "pictures" / "gray.png")
    assert gray.shape == picture.shape and torch.equal(gray[0], gray[1])


def test_views_of_two_sizes_are_shown_at_the_larger(tiny):
    picture = read_picture(pretrain(tiny(method="MultiCrop", max_steps=1)) / "pictures" / "views.png")
    assert picture.shape == (3, 2 * 10 + 2, 8 * 10 + 2)
    first = picture[:, 12:20, 2:10]
    assert torch.equal(first, first[:, ::2, ::2].repeat_interleave(2, 1).repeat_interleave(2, 2))
    assert len(first.unique()) > 4


def views_mean():
    return presets.plain(8)[0].mean


def views_std():
    return presets.plain(8)[0].std


def test_what_is_no_run_is_named(run, tmp_path, weights):
    with pytest.raises(UserError, match=r"there is no folder .*none"):
        load_run(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty is no run folder: it has no config.yaml"):
        load_run(tmp_path / "empty")
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("TinyBackbone", "PlainBackbone"))
    with pytest.raises(UserError, match=r"was made with backbone 'train.tiny:TinyBackbone', not"):
        load_run(run).backbone()
    (run / "config.yaml").write_text(text)
    state = torch.load(run / "last.ckpt", weights_only=True)
    del state["method"]["head.bias"]
    torch.save(state, run / "last.ckpt")
    with pytest.raises(UserError, match=r"last.ckpt do not fit its method as the code is now: .*head.bias"):
        load_run(run).method()
    (run / "last.ckpt").unlink()
    with pytest.raises(UserError, match=r"there is no .*last.ckpt"):
        load_run(run).method()
