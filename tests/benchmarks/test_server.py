"""The commands for a GPU server: what they call exists, and the headline's rows are measured."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sslfast.cli import COMMANDS, main
from sslfast.data.sources.cifar10 import CLASSES

SERVER = Path(__file__).parent.parent.parent / "benchmarks" / "server"


def steps() -> list[list[str]]:
    """The commands of prove.sh, continuation lines joined."""
    text = (SERVER / "prove.sh").read_text().replace("\\\n", " ")
    return [shlex.split(line) for line in re.findall(r"^step \S+ \d+ (.*)$", text, flags=re.MULTILINE)]


def test_the_script_is_valid_bash():
    subprocess.run(["bash", "-n", str(SERVER / "prove.sh")], check=True)


def test_its_steps_end_within_their_limits():
    limits = re.findall(r"^step \S+ (\d+) ", (SERVER / "prove.sh").read_text(), flags=re.MULTILINE)
    assert len(limits) == len(steps()) >= 8


@pytest.mark.parametrize("step", [step for step in steps() if "sslfast" in step], ids=lambda step: " ".join(step[3:5]))
def test_its_options_exist(step: list[str], capsys: pytest.CaptureFixture[str]):
    command, *rest = step[step.index("sslfast") + 1 :]
    assert command in COMMANDS
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = capsys.readouterr().out
    assert all(option in text for option in rest if option.startswith("--"))


def test_the_headline_logs_time_and_accuracy_together(tmp_path: Path):
    generator = np.random.default_rng(0)
    for split in ("train", "test"):
        for number, name in enumerate(CLASSES):
            (tmp_path / "cifar" / split / name).mkdir(parents=True)
            for position in range(52 if split == "train" else 2):
                pixels = np.clip(25 * number + generator.integers(0, 30, (32, 32, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / "cifar" / split / name / f"{position:04d}.png")
    module = importlib.import_module("benchmarks.server.headline")
    file = module.headline(str(tmp_path / "cifar"), ["simsiam"], tmp_path / "out", 1, "resnet10_narrow", 0, "cpu")
    (row,) = json.loads(file.read_text())["rows"]
    assert (row["method"], row["epochs"], row["images"]) == ("simsiam", 1, 520)
    assert row["seconds"] > 0 and 0 <= row["knn_top1"] <= 100
