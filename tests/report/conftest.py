"""A small real run for the report, trained once, and a page to look at."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sslfast.train import TrainConfig, pretrain

CLASSES = ["apple", "box", "cup <b>&</b>"]
COLOURS = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200]])


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def write_images(folder: Path, count: int, colour: np.ndarray) -> None:
    folder.mkdir(parents=True)
    generator = np.random.default_rng(count)
    for number in range(count):
        noise = generator.integers(-40, 40, (16, 16, 3))
        Image.fromarray(np.clip(colour + noise, 0, 255).astype(np.uint8)).save(folder / f"{number}.png")


def train(root: Path, out: Path) -> Path:
    config = TrainConfig(
        method="autoencoder",
        data="folder",
        root=str(root),
        backbone="resnet10_narrow",
        image_size=16,
        epochs=2,
        batch_size=8,
        device="cpu",
        out=str(out),
    )
    return pretrain(config)


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """Folder with `data` (three classes, 8 training and 6 test images each) and `run`, made by pretraining on them."""
    folder = tmp_path_factory.mktemp("report")
    for name, colour in zip(CLASSES, COLOURS, strict=True):
        name = name.replace("/", "∕")
        write_images(folder / "data" / "train" / name, 8, colour)
        write_images(folder / "data" / "test" / name, 6, colour)
    train(folder / "data", folder / "run")
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained run, evaluated on paper: rows of three protocols."""
    folder = tmp_path / "a run"
    shutil.copytree(trained / "run", folder)
    rows = [row("knn", "pretrained", 80.0), row("knn", "random", 62.5), row("linear", "pretrained", 84.0)]
    rows += [row("finetune", "pretrained", 30.0 + samples, samples) for samples in (1, 4, 16)]
    rows += [row("finetune", "scratch", 20.0 + samples, samples) for samples in (1, 4, 16)]
    (folder / "results.json").write_text(json.dumps(rows))
    return folder


def row(protocol: str, encoder: str, top1: float, samples: int | None = None) -> dict:
    fraction = 1.0 if samples is None else None
    return {
        "protocol": protocol,
        "encoder": encoder,
        "label_fraction": fraction,
        "samples_per_class": samples,
        "top1": top1,
        "top5": min(100.0, top1 + 10),
    }


class Page(HTMLParser):
    """The elements, text and nesting of a page.

    Attributes:
        elements: (tag, attributes) in order.
        sections: text of every <section> by its id.
        text: all text outside <style>.
    """

    VOID = {"meta", "img", "br", "link", "input", "hr"}

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.sections: dict[str, str] = {}
        self.text = ""
        self._open: list[str] = []
        self._section = ""
        self.feed(source)
        self.close()
        assert self._open == [], f"elements that are not closed: {self._open}"

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, {name: value or "" for name, value in attributes}))
        if tag in ("td", "th", "small", "br"):
            self.handle_data(" ")
        if tag not in self.VOID:
            self._open.append(tag)
        if tag == "section":
            self._section = dict(attributes)["id"]
            self.sections[self._section] = ""

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open and self._open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        if "style" not in self._open:
            self.text += data
            if "section" in self._open:
                self.sections[self._section] += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def open_page() -> Callable[[Path], Page]:
    return lambda path: Page(path.read_text(encoding="utf-8"))
