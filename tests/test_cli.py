"""Commands as a user types them: what they print, their exit codes, and what they say about bad input."""

import fcntl
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from sslfast import registry
from sslfast.cli import COMMANDS, main, normalize
from sslfast.errors import UserError

# A run of two steps.
SMALL = shlex.split(
    "pretrain --method simclr --data shapes --limit 32 --backbone resnet10_narrow --batch-size 16 --epochs 1"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished small run; tests do not change it."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert main([*SMALL, "--out", str(folder)]) == 0
    return folder


def assert_same_weights(run: Path, other: Path) -> None:
    """The backbones of two runs are equal, bit for bit."""
    ours, theirs = (load_file(folder / "backbone.safetensors") for folder in (run, other))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def fails(capsys: pytest.CaptureFixture[str], arguments: Sequence[str], code: int) -> str:
    """Runs a command that must fail, and returns its message."""
    assert main(list(arguments)) == code
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert captured.err.startswith("sslfast: ")
    return captured.err


def test_without_a_command_prints_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"usage: sslfast {command}" in text
    assert "_" not in "".join(word for word in text.split() if word.startswith("--"))


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys; from sslfast.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_python_dash_m() -> None:
    done = subprocess.run([sys.executable, "-m", "sslfast", "pretrian"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "sslfast: unknown command 'pretrian'; did you mean 'pretrain'?\n"


def test_own_class_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A console script's path lacks the working directory."""
    (tmp_path / "own_method_here.py").write_text(
        "from sslfast.methods import Method\n\n\nclass Own(Method):\n    pass\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    assert registry.resolve("methods", "own_method_here:Own").__name__ == "Own"
    with pytest.raises(UserError, match=f"No module named 'not_here'.*working directory {tmp_path}"):
        registry.resolve("methods", "not_here:Own")


@pytest.mark.parametrize(
    ("option", "name", "reason"),
    [
        ("--method", "torch.nn:Linear", "no sslfast.methods.Method; derive .*docs/your-own-method.md"),
        ("--method", "json:dumps", "no sslfast.methods.Method"),
        ("--backbone", "torchvision.models:resnet18", "gives no backbone: .*image_size"),
        ("--backbone", "os:path", "cannot be called with image_size, in_channels"),
        ("--data", "os:path", "not a callable object; .*docs/your-own-data.md"),
        ("--data", "json:dumps", "missing a required argument: 'obj'"),
        ("--data", "builtins:dict", "no signature found"),
        ("--data", "types:SimpleNamespace", "cannot be called|has no classes and no __len__ and no read"),
    ],
)
def test_own_class_that_is_none(
    option: str, name: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = fails(capsys, [*SMALL, "--out", str(tmp_path / "run"), option, name], code=2)
    assert re.search(f"'{name}' .*{reason}", message)


def test_printing_the_configuration_ends_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", "--print-config", "--method", "moco"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["method"] == "moco"


@pytest.mark.parametrize(("stop", "code", "printed"), [(3, 3, ""), (None, 0, ""), ("no more", 1, "no more\n")])
def test_exits_are_returned(
    stop: object, code: int, printed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def leave() -> None:
        raise SystemExit(stop)

    monkeypatch.setattr("sslfast.info.print_info", leave)
    assert main(["info"]) == code
    assert capsys.readouterr().err == printed


@pytest.mark.parametrize("kind", sorted(registry.TABLES))
def test_list_names_everything_registered(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    described = {line.split()[0] for line in lines if len(line.split()) > 3}
    assert described >= registry.TABLES[kind].keys()


def test_list_explains_a_name_with_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    for kind, name, option in [("methods", "simclr", "temperature:"), ("data", "folder", "resize_shorter:")]:
        assert main(["list", kind, "--name", name]) == 0
        assert option in capsys.readouterr().out
    assert "did you mean 'simclr'?" in fails(capsys, ["list", "methods", "--name", "simcrl"], code=2)
    assert "leave --name out" in fails(capsys, ["list", "reproductions", "--name", "split-brain"], code=2)


def test_info_names_what_is_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    topics = ("sslfast", "CPU kernels", "CUDA kernels", "GPUs", "torch", "torchvision", "timm", "DALI")
    assert all(f"\n{topic} " in f"\n{text}" for topic in topics)
    assert "compiled for baseline" in text


def test_traceback_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError):
        main(["list", "metods", "--traceback"])
    monkeypatch.setenv("SSLFAST_TRACEBACK", "1")
    with pytest.raises(UserError):
        main(["list", "metods"])


OPTIONS: dict[str, Any] = {
    "label_fractions": Sequence[float],
    "names": tuple[str, ...] | None,
    "method_options": dict[str, Any],
    "compile": bool,
    "rate": float,
}


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("--label-fractions 0.01,0.1,1.0", ["--label_fractions=[0.01,0.1,1.0]"]),
        ("--label_fractions=0.5", ["--label_fractions=[0.5]"]),
        ("--label-fractions [0.5,1]", ["--label_fractions=[0.5,1]"]),
        ("--names knn,linear runs/x", ["--names=[knn,linear]", "runs/x"]),
        ("--method-options.some-size 3", ["--method_options.some_size=3"]),
        ("--compile --rate 1e-3", ["--compile=true", "--rate=1e-3"]),
        ("--compile false", ["--compile=false"]),
        ("--compile Yes", ["--compile=true"]),
        ("--compile 0 --rate 1", ["--compile=false", "--rate=1"]),
        ("--rate -1", ["--rate=-1"]),
        ("--config a-b.yaml", ["--config", "a-b.yaml"]),
    ],
)
def test_options_are_read_as_typed(typed: str, read: list[str]) -> None:
    assert normalize(typed.split(), OPTIONS) == read


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("evalute runs/x", ["'evalute'", "'evaluate'"]),
        ("list metods", ["'metods'", "'methods'"]),
        ("list", ["list needs KIND"]),
        ("list methods data", ["'data'"]),
        ("list methods --verbos", ["'--verbos'"]),
        ("pretrain --metod simclr", ["'--metod'", "'--method'"]),
        ("pretrain --epochs many", ["'--epochs'", "int", "many"]),
        ("pretrain --epochs", ["'--epochs'", "needs a value"]),
        ("pretrain --schedule cosin", ["'--schedule'", "'cosine'"]),
        ("pretrain --method simclr", ["data", "shapes"]),
        ("pretrain --config nowhere.yaml", ["nowhere.yaml"]),
        ("pretrain --method simcrl --data shapes", ["'simcrl'", "'simclr'"]),
        ("pretrain --method no.such:Thing --data shapes", ["no.such:Thing"]),
        ("pretrain --method simclr --data shape", ["'shape'", "'shapes'"]),
        ("pretrain --method simclr --data shapes --backbone resnet81", ["'resnet81'", "resnet18"]),
        ("pretrain --method simclr --data shapes --method-options.temprature 1", ["'temprature'", "'temperature'"]),
        ("pretrain --method simclr --data shapes --data-options.sise 16", ["'sise'", "'size'"]),
        ("pretrain --method simclr --data shapes --limit 16 --batch-size 32", ["16", "32"]),
        ("--method simclr pretrain", ["'--method' stands before the command"]),
        ("pretrain --lr 0.1", ["'--lr'", "did you mean '--learning-rate'?"]),
        ("pretrain --output-dir x", ["did you mean '--out'?"]),
        ("evaluate x --lr 0.1", ["unknown option '--lr'"]),
        ("pretrain -epochs 3", ["'-epochs 3'", "two dashes"]),
        ("evaluate x --protocols knn, linear", ["'linear'", "joined by commas, without spaces"]),
        ("pretrain --epochs 1e2", ["'--epochs': expected int, got '1e2'"]),
        ("pretrain --epochs=", ["'--epochs': expected int, got ''"]),
        ("pretrain --method SimCLR --data shapes", ["did you mean 'simclr'?"]),
        ("pretrain --method simclr --data Shapes", ["did you mean 'shapes'?"]),
        ("pretrain --method barlow_twins --data shapes", ["'barlow_twins'; valid names: autoencoder"]),
        ("pretrain --method-options temperature=0.2", ["'--method-options'", "--method-options.NAME VALUE"]),
        ("quickstart --images 10", ["images is 10", "at least 64"]),
        ("bench opps", ["'opps'", "'ops'"]),
        ("bench ops --against kornai", ["'kornai'", "'kornia'"]),
        ("bench ops --only augmnt", ["'augmnt'", "'augment'"]),
        ("evaluate nowhere", ["nowhere"]),
        ("report nowhere", ["nowhere"]),
        ("export nowhere", ["nowhere"]),
    ],
)
def test_wrong_names_and_options(
    arguments: str, words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    typed = arguments.split()
    if typed[0] == "pretrain":
        typed += ["--out", str(tmp_path / "run")]
    message = fails(capsys, typed, code=2)
    assert all(word in message for word in words), message
    assert len(message.splitlines()) == 1


def test_wrong_names_for_a_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "'linear'" in fails(capsys, ["evaluate", str(run), "--protocols", "knn,liner"], code=2)
    assert "'timm'" in fails(capsys, ["export", str(run), "--format", "tim"], code=2)


def test_config_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Options from YAML; what is typed after it wins; an unknown one is answered with the nearest."""
    file = tmp_path / "recipe.yaml"
    options = {"method": "simclr", "method_options": {"temperature": 0.2}, "data": "shapes", "limit": 32}
    options |= {"backbone": "resnet10_narrow", "batch_size": 16, "epochs": 5, "max_steps": 1}
    file.write_text(yaml.safe_dump(options))
    out = tmp_path / "run"
    assert main(["pretrain", "--config", str(file), "--epochs", "1", "--out", str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out)
    kept = yaml.safe_load((out / "config.yaml").read_text())
    assert kept["method_options"] == {"temperature": 0.2}
    assert kept["epochs"] == 1

    file.write_text("method: simclr\nepoch: 3\n")
    message = fails(capsys, ["pretrain", "--config", str(file)], code=2)
    assert "'epoch'" in message
    assert "'epochs'" in message


def test_a_run_can_be_repeated_from_its_config(run: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    assert main(["pretrain", "--config", str(run / "config.yaml"), "--out", str(again)]) == 0
    assert_same_weights(again, run)


def test_evaluate_prints_a_table_and_report_a_path(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    options = shlex.split("--protocols knn,linear --label-fractions 0.5,1.0 --limit-train 60 --limit-test 40")
    assert main(["evaluate", str(folder), *options]) == 0
    text = capsys.readouterr().out
    for word in ("knn", "linear", "50 %", "100 %", "pretrained", "random"):
        assert word in text
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "report.html")
    assert (folder / "report.html").stat().st_size > 0


def test_resume_goes_on_where_the_run_stopped(tmp_path: Path) -> None:
    """Stopped after one step and resumed, a run ends with the weights of one that never stopped."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main([*SMALL, "--out", str(whole)]) == 0
    assert main([*SMALL, "--out", str(parts), "--max-steps", "1"]) == 0
    assert main([*SMALL, "--out", str(parts), "--max-steps", "0", "--resume"]) == 0
    assert_same_weights(parts, whole)


def pictures(folder: Path, sizes: Sequence[tuple[int, int]]) -> Path:
    """A folder of random pictures in two classes."""
    noise = np.random.default_rng(0)
    for position, (height, width) in enumerate(sizes):
        (folder / "ab"[position % 2]).mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(noise.integers(0, 256, (height, width, 3), dtype=np.uint8))
        image.save(folder / "ab"[position % 2] / f"{position}.jpg")
    return folder


def from_folder(root: Path, out: Path, *more: str) -> list[str]:
    return [*SMALL, "--data", "folder", "--root", str(root), "--batch-size", "4", "--out", str(out), *more]


def test_missing_and_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing, empty = tmp_path / "missing", tmp_path / "empty"
    assert str(missing) in fails(capsys, from_folder(missing, tmp_path / "run"), code=1)
    empty.mkdir()
    assert str(empty) in fails(capsys, from_folder(empty, tmp_path / "run"), code=1)


@pytest.mark.parametrize("damage", ["truncated", "corrupt"])
def test_damaged_picture_is_named_or_skipped(damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = pictures(tmp_path / "data", [(40, 40)] * 8)
    bad = root / "b" / "5.jpg"
    bad.write_bytes(bad.read_bytes()[:200] if damage == "truncated" else b"not a picture")
    assert str(bad) in fails(capsys, from_folder(root, tmp_path / "run"), code=1)
    with pytest.warns(UserWarning, match=r"skipped 1 of 8"):
        assert main(from_folder(root, tmp_path / "run", "--on-error", "skip")) == 0


def test_pictures_of_any_size_and_channels(tmp_path: Path) -> None:
    """Smaller than the view, larger, and gray: all become views."""
    root = pictures(tmp_path / "data", [(9, 50), (12, 12), (100, 80), (33, 31)])
    Image.fromarray(np.zeros((40, 40), dtype=np.uint8)).save(root / "a" / "gray.png")
    assert main(from_folder(root, tmp_path / "run")) == 0


def test_two_processes_do_not_train_in_one_folder(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each would write its own checkpoints and metrics over the other's. The lock ends with its process."""
    folder = shutil.copytree(run, tmp_path / "my run")
    typed = [*SMALL, "--out", str(folder)]
    kept = (folder / "last.ckpt").read_bytes()
    claim = os.open(folder, os.O_RDONLY)
    fcntl.flock(claim, fcntl.LOCK_EX)
    for how in ("--resume", "--overwrite"):
        message = fails(capsys, [*typed, how], code=2)
        assert f"another process is training in {folder}; wait for it, or give another --out" in message
    assert (folder / "last.ckpt").read_bytes() == kept
    assert main(["export", str(folder)]) == 0  # what only reads goes on
    os.close(claim)
    assert main([*typed, "--resume"]) == 0
    assert main([*typed, "--overwrite"]) == 0


def test_checkpoint_of_another_method(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    other = [*SMALL, "--out", str(folder), "--method", "rotation", "--resume"]
    message = fails(capsys, other, code=2)
    assert "simclr" in message
    assert "rotation" in message


def test_full_disk_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    """Files cannot grow beyond 100 kB in the child: its checkpoint does not fit."""
    folder = tmp_path / "run"
    typed = [*SMALL, "--out", str(folder)]
    assert main([*typed, "--max-steps", "1"]) == 0
    before = (folder / "last.ckpt").read_bytes()
    done = subprocess.run(
        [sys.executable, "-m", "sslfast", *typed, "--max-steps", "0", "--resume"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "last.ckpt" in done.stderr
    assert (folder / "last.ckpt").read_bytes() == before
