"""The methods as their users write them: the loss of sslfast's method on the same views, by the same networks."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from sslfast import methods, ops
from sslfast.augment import GridViews, Views
from sslfast.data import ImageBatch, build_source

BATCH = 12


@pytest.fixture(scope="module")
def images() -> ImageBatch:
    return build_source("shapes", size=32, limit=BATCH).read()


def both(name: str, library: str) -> tuple[Any, Any]:
    """A method and the peer of the same method with the same weights."""
    peers = importlib.import_module("benchmarks.peers.training").PEERS
    ours, theirs = (methods.build(name, backbone="resnet10_narrow", image_size=32) for _ in range(2))
    return ours, peers[name][library](theirs)


def planes(images: Tensor) -> Tensor:
    """Lab of images in [0, 1], each channel in [0, 1]."""
    offset, reach = (torch.tensor(values).view(3, 1, 1) for values in ((0.0, 128, 128), (100.0, 255, 255)))
    return (ops.rgb_to_lab(images) + offset) / reach


@pytest.mark.parametrize(
    ("name", "library"),
    [
        ("simclr", "lightly"),
        ("simsiam", "lightly"),
        ("byol", "lightly"),
        ("supcon", "lightly, pytorch-metric-learning"),
        ("rotation", "torchvision"),
        ("relative_position", "torchvision"),
        ("jigsaw", "torchvision"),
        ("cpc", "torchvision"),
        ("autoencoder", "torchvision"),
        ("denoising_autoencoder", "torchvision"),
        ("colorization", "opencv"),
        ("split_brain", "opencv"),
    ],
)
def test_losses_agree_on_the_same_views(name: str, library: str, images: ImageBatch):
    for distribution in ("lightly", "pytorch_metric_learning", "cv2"):
        pytest.importorskip(distribution)
    ours, theirs = both(name, library)
    views: Views = ours.views(images)
    given = views.tensors
    if name == "jigsaw":
        assert isinstance(views, GridViews)
        given = [views.patches, views.drawn.arrangement]
    elif name == "relative_position":
        assert isinstance(views, GridViews)
        given = [views.patches]
    elif library == "opencv":
        given = [planes(given[0])]
    expected = ours(views)["loss"].item()
    loss = theirs.loss(given, views.label)
    assert loss.requires_grad
    assert loss.item() == pytest.approx(expected, rel=2e-4)


def test_a_queue_of_random_keys_hides_the_key_as_ours_does(images: ImageBatch):
    """Each side has keys of its own, 4096 of them: the loss is nearly the same."""
    pytest.importorskip("lightly")
    ours, theirs = both("moco", "lightly")
    views = ours.views(images)
    loss, expected = theirs.loss(views.tensors, views.label).item(), ours(views)["loss"].item()
    assert loss == pytest.approx(expected, abs=0.2) and loss > 0.5


def test_samples_have_the_form_of_the_views(images: ImageBatch):
    """Of one picture: as many tensors, of the shape of sslfast's views; where lightly does not draw, of like values."""
    for distribution in ("lightly", "pytorch_metric_learning", "cv2", "skimage"):
        pytest.importorskip(distribution)
    peers = importlib.import_module("benchmarks.peers.training").PEERS
    pictures = [Image.fromarray(images.image(i).numpy()) for i in range(BATCH)]
    for name, libraries in peers.items():
        method: Any = methods.build(name, backbone="resnet10_narrow", image_size=32)
        views = method.views(images)
        expected = [views.patches] if name in ("jigsaw", "relative_position") else views.tensors
        for library, build in libraries.items():
            samples = [build(method).sample(picture) for picture in pictures]
            for k, view in enumerate(expected):
                tensors = torch.stack([sample[k] for sample in samples])
                assert tensors.shape == view.shape and tensors.dtype == torch.float32, (name, k)
                if library.startswith("lightly"):  # normalises by other numbers, distorts from other ranges
                    continue
                if name in ("colorization", "split_brain"):
                    view = planes(view)
                assert tensors.mean().item() == pytest.approx(view.mean().item(), abs=0.25), (name, k)
                assert tensors.std().item() == pytest.approx(view.std().item(), rel=0.25), (name, k)
