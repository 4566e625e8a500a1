"""The scripts of docs/drop-in: as their users write them, and with sslfast's imports.

A page holds a script and the import lines that change, as a difference. Measured is the whole script with one epoch,
the start of its workers included, on small images and with as many workers as threads on both sides: with a small
network, and with one that costs next to nothing, which leaves the time of reading, views and loss.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import re
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torchvision
from PIL import Image
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.peers import solo_learn
from benchmarks.run import Case, Setup
from sslfast.data import ImageBatch, build_source

PAGES = Path(__file__).parents[2] / "docs" / "drop-in"
SIZES = "batch_size, epochs, num_workers = 256, 10, 2"
IMAGES = 1024
BATCH = 256
# Page -> the libraries of its script, the first of which draws the views.
PEERS = {
    "lightly": ("lightly",),
    "lightning": ("lightly", "pytorch_lightning"),
    "pytorch": ("torchvision", "pytorch_metric_learning"),
    "solo-learn": ("torchvision",),
}


def cases(setup: Setup) -> Iterator[Case]:
    """Every page's script with either network."""
    images = build_source("shapes", size=32, limit=IMAGES).read()
    for page, (drawer, *others) in PEERS.items():
        for network, description in {ResNet10: "narrow ResNet-10", PooledPixels: "a linear layer as network"}.items():

            def make(
                after: bool, page: str = page, network: type = network, needed: tuple[str, ...] = (drawer, *others)
            ) -> Callable[[], object]:
                if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
                    raise ImportError(f"No module named {missing[0]!r}")
                code = sized(script(page, after), BATCH, epochs=1, workers=setup.threads)
                return lambda: run(code, images, network)["losses"]

            yield Case(
                op="drop_in",
                name=f"docs/drop-in/{page}.md, {IMAGES:,} images of 32 px, batch {BATCH}, {description}",
                unit="images",
                count=IMAGES,
                contenders={
                    "sslfast": partial(make, after=True),
                    f"{drawer}, {setup.threads} workers": partial(make, after=False),
                },
                settings={"batch": BATCH, "images": IMAGES, "workers": setup.threads, "network": description},
            )


def script(page: str, after: bool) -> str:
    """The script of a page, before or after the change of its imports."""
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"^```(python|diff)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL))
    lines = blocks["python"].splitlines()
    if after:
        changes = blocks["diff"].splitlines()
        removed = [line[1:] for line in changes if line[0] == "-"]
        place = min(lines.index(line) for line in removed)
        lines = [line for line in lines if line not in removed]
        lines[place:place] = [line[1:] for line in changes if line[0] == "+"]
    return "\n".join(lines) + "\n"


def sized(code: str, batch_size: int, epochs: int, workers: int) -> str:
    """The script with other sizes."""
    assert code.count(SIZES) == 1
    return code.replace(SIZES, f"batch_size, epochs, num_workers = {batch_size}, {epochs}, {workers}")


def run(code: str, images: ImageBatch, network: type) -> dict[str, Any]:
    """Runs a script in an empty folder, with these images as data set and this ResNet-18; returns its variables."""
    variables: dict[str, Any] = {"__name__": "script"}
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(torchvision.datasets, "CIFAR10", _dataset(images)))
        stack.enter_context(mock.patch.object(torchvision.models, "resnet18", network))
        if importlib.util.find_spec("solo") is None:
            for name, module in _solo_learn().items():  # not mock.patch.dict: it forgets what the script imports
                sys.modules[name] = module
                stack.callback(sys.modules.pop, name)
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        stack.callback(os.chdir, os.getcwd())
        os.chdir(folder)
        exec(compile(code, "script", "exec"), variables)
    return variables


class ResNet10(ResNet):
    """One basic block a stage, 32 to 256 channels."""

    def __init__(self) -> None:
        super().__init__(BasicBlock, (1, 1, 1, 1), 10, channels=(32, 64, 128, 256), stem_type="deep", stem_width=16)


class PooledPixels(nn.Module):
    """A linear layer on 4 x 4 pooled pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.trained = nn.Linear(48, 48)
        self.fc: nn.Module = nn.Linear(48, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.trained(functional.adaptive_avg_pool2d(images, 4).flatten(1)))


def _dataset(images: ImageBatch) -> type:
    """A class that is called like torchvision's CIFAR10."""
    assert images.label is not None
    pictures = [Image.fromarray(images.image(i).numpy()) for i in range(len(images))]
    labels = images.label.tolist()

    class Pictures(torchvision.datasets.VisionDataset):
        def __init__(self, root: str, transform: Callable[[Any], Any], download: bool = False) -> None:
            super().__init__(root, transform=transform)

        def __len__(self) -> int:
            return len(pictures)

        def __getitem__(self, position: int) -> tuple[Any, int]:
            return self.transform(pictures[position]), labels[position]

    return Pictures


def _solo_learn() -> dict[str, types.ModuleType]:
    """Modules that hold solo-learn's two loss functions where the scripts import them from."""
    modules = {
        name: types.ModuleType(name) for name in ("solo", "solo.losses", "solo.losses.simclr", "solo.losses.byol")
    }
    modules["solo.losses.simclr"].simclr_loss_func = solo_learn.simclr_loss_func  # type: ignore[attr-defined]
    modules["solo.losses.byol"].byol_loss_func = solo_learn.byol_loss_func  # type: ignore[attr-defined]
    return modules
