"""The commands for a GPU server: what they call exists, and the headline's rows are measured."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
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
    return [shlex.split(line) for line in re.findall(r"^ *step \S+ \d+ (.*)$", text, flags=re.MULTILINE)]


def test_the_script_is_valid_bash():
    subprocess.run(["bash", "-n", str(SERVER / "prove.sh")], check=True)


def test_a_failure_stops_nothing_and_ten_minutes_are_the_end(tmp_path: Path):
    """A step that fails or outlasts its limit is named; after the deadline nothing begins."""
    text = (SERVER / "prove.sh").read_text()
    function = text[text.index("step() {") : text.index("\n}\n") + 2]
    deadline = re.search(r"^deadline=(\d+)$", text, flags=re.MULTILINE)
    assert deadline and int(deadline[1]) < 600
    commands = f"""
        failed=(); out={tmp_path}; {deadline[0]}
        {function}
        wanted="  "
        step wrong 9 false
        step slow 1 sleep 30
        step right 9 echo done
        SECONDS={int(deadline[1]) - 2}
        step late 9 touch {tmp_path}/late
        echo "failed: ${{failed[*]}}"
    """
    done = subprocess.run(["bash", "-c", commands], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "failed: wrong slow late"
    assert (tmp_path / "right.log").read_text() == "done\n"
    assert not (tmp_path / "late").exists()


def test_steps_can_be_chosen(tmp_path: Path):
    text = (SERVER / "prove.sh").read_text()
    wanted = re.search(r"^wanted=.*$", text, flags=re.MULTILINE)
    function = text[text.index("step() {") : text.index("\n}\n") + 2]
    assert wanted
    commands = f"""
        failed=(); out={tmp_path}; deadline=585; set -- {tmp_path} second third; {wanted[0]}
        {function}
        for name in first second sec third; do step $name 9 echo $name; done
    """
    done = subprocess.run(["bash", "-uc", commands], capture_output=True, text=True, check=True)
    assert [line for line in done.stdout.splitlines() if line.startswith("==")] == ["== second", "== third"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["second.log", "third.log"]


def test_every_file_of_cuda_tests_is_run():
    """prove.sh looks for them by their mark, and names those that have a step of their own."""
    text = (SERVER / "prove.sh").read_text()
    (listing,) = re.findall(r"< <\((.*)\)$", text, flags=re.MULTILINE)
    found = subprocess.run(
        ["bash", "-c", listing], cwd=SERVER.parent.parent, capture_output=True, text=True, check=True
    )
    files = set(found.stdout.split()) | {word for step in steps() for word in step if word.endswith(".py")}
    folder = SERVER.parent.parent / "tests"
    assert {str(file.relative_to(folder.parent)) for file in folder.glob("cuda/test_*.py")} < files


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch):
    packages = importlib.import_module("benchmarks.server.packages")
    before, lacking = packages.missing(), ("timm", "typeshed_client", "PIL")
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name in lacking else find_spec(name))
    assert set(packages.missing()) - set(before) == set(lacking)


def test_a_method_that_fails_leaves_the_others_alone(tmp_path: Path):
    smoke = importlib.import_module("benchmarks.server.smoke")
    file = smoke.smoke(["simsiam", "no-such-method"], [False], "cpu", tmp_path, seconds=300, workers=2)
    right, wrong = json.loads(file.read_text())
    assert (right["method"], right["compiled"], right["error"]) == ("simsiam", False, None)
    assert (tmp_path / "simsiam-plain" / "backbone.safetensors").exists()
    assert "no-such-method" in wrong["error"]
    (late,) = json.loads(smoke.smoke(["simsiam"], [True], "cpu", tmp_path, seconds=0.1, workers=1).read_text())
    assert late["compiled"] and "no end after 0 s" in late["error"]


def test_the_sanitizer_s_selection_names_tests():
    (step,) = [step for step in steps() if "racecheck" in " ".join(step)]
    command = [sys.executable, *step[1:], "--collect-only"]
    found = subprocess.run(command, cwd=SERVER.parent.parent, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout
    assert sum("test_sanitizer_is_silent" in line for line in found.stdout.splitlines()) == 4


@pytest.mark.parametrize("step", [step for step in steps() if "sslfast" in step], ids=lambda step: " ".join(step[3:5]))
def test_its_options_exist(step: list[str], capsys: pytest.CaptureFixture[str]):
    command, *rest = step[step.index("sslfast") + 1 :]
    assert command in COMMANDS
    assert main([command, "--help"]) == 0
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
