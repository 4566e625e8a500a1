from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sslfast.train import TrainConfig


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., TrainConfig]:
    """A configuration of the tiny method: 44 images in batches of 8, so 5 steps an epoch, for 3 epochs."""

    def make(out: str = "run", method: str = "Brightness", **changes: Any) -> TrainConfig:
        values = {
            "method": f"train.tiny:{method}",
            "data": "train.tiny:Dots",
            "backbone": "train.tiny:TinyBackbone",
            "image_size": 8,
            "device": "cpu",
            "out": str(tmp_path / out),
            **changes,
        }
        return TrainConfig(**values)

    return make


@pytest.fixture
def metrics() -> Callable[[Path], list[dict[str, str]]]:
    """Rows of a run's metrics.csv without the columns that depend on the clock."""

    def read(run: Path) -> list[dict[str, str]]:
        with (run / "metrics.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        clock = ("images_per_second", "_share")
        return [{name: value for name, value in row.items() if not name.endswith(clock)} for row in rows]

    return read


@pytest.fixture
def weights() -> Callable[[Path], dict[str, torch.Tensor]]:
    """The method's state in a run's checkpoint."""

    def read(run: Path) -> dict[str, torch.Tensor]:
        return torch.load(run / "last.ckpt", weights_only=True)["method"]

    return read
