from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sslfast.errors import TrainingError, UserError
from sslfast.train import TrainConfig, pretrain

TESTS = Path(__file__).parents[1]


def recording(tiny, tmp_path, name, **changes):
    folder = tmp_path / f"{name}-ranks"
    folder.mkdir()
    options = {"noise": 0.0, "folder": str(folder)}
    return folder, tiny(name, method="Recording", method_options=options, **changes)


def records(folder):
    """Per rank, what the last step left."""
    last = max(int(path.stem.split("-")[1]) for path in folder.iterdir())
    return [torch.load(folder / f"{rank}-{last}.pt", weights_only=False) for rank in (0, 1)]


def command(config, *prefix):
    options = [f"--{name}={value}" for name, value in vars(config).items() if value is not None and name != "method_options"]
    options += [f"--method_options.{name}={value}" for name, value in (config.method_options or {}).items()]
    return [sys.executable, *prefix, "-m", "sslfast", "pretrain", *options]


def environment():
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


def check_ranks(folder):
    first, second = records(folder)
    for name, value in first["weights"].items():
        assert torch.equal(value, second["weights"][name]), name
    for ours, theirs in zip(first["seen"], second["seen"], strict=True):
        assert len(ours) == len(theirs) == 4
    epochs = [(first["seen"][k : k + 5], second["seen"][k : k + 5]) for k in range(0, 15, 5)]
    for parts in epochs:
        indices = [index for part in parts for batch in part for index in batch]
        assert len(set(indices)) == len(indices) == 40


def test_two_processes_started_here_train_as_one(tiny, tmp_path, weights, metrics):
    changes = {"backbone": "train.tiny:PlainBackbone", "epochs": 3}
    folder, config = recording(tiny, tmp_path, "two", devices=2, **changes)
    two = pretrain(config)
    check_ranks(folder)
    _, config = recording(tiny, tmp_path, "one", **changes)
    one = pretrain(config)
    for name, value in weights(one).items():
        torch.testing.assert_close(weights(two)[name], value, rtol=1e-4, atol=1e-6, msg=name)
    for row, other in zip(metrics(one), metrics(two), strict=True):
        assert {k: float(v) for k, v in row.items()} == pytest.approx({k: float(v) for k, v in other.items()}, rel=1e-4)


def test_torchrun_trains_and_resumes_exactly(tiny, tmp_path, weights, metrics):
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    folder, config = recording(tiny, tmp_path, "two")
    subprocess.run(command(config, *torchrun), check=True, env=environment(), timeout=120)
    check_ranks(folder)
    stopped = tiny("stopped", devices=2, method="Recording", method_options=config.method_options, max_steps=7)
    pretrain(stopped)
    pretrain(TrainConfig(out=stopped.out, max_steps=0), resume=True)
    straight = Path(config.out)
    for name, value in weights(straight).items():
        assert torch.equal(weights(Path(stopped.out))[name], value), name
    assert metrics(straight) == metrics(Path(stopped.out))


def test_errors_of_started_processes_keep_their_type(tiny):
    with pytest.raises(UserError, match="has only 44 images") as caught:
        pretrain(tiny(devices=2, batch_size=96))
    assert type(caught.value) is UserError
    with pytest.raises(TrainingError, match="the loss is nan at step 2 "):
        pretrain(tiny(devices=2, method="Diverging"))


@pytest.mark.parametrize("devices", [1, 2])
def test_sigterm_to_the_command(tiny, devices):
    config = tiny(devices=devices, epochs=100_000)
    run = Path(config.out)
    process = subprocess.Popen(command(config), env=environment(), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (run / "last.ckpt").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "sslfast: stopped by SIGTERM at step " in errors and f"sslfast pretrain --resume --out {run}" in errors
    assert "Traceback" not in errors
    step = torch.load(run / "last.ckpt", weights_only=True)["position"]["step"]
    assert f"at step {step} of 500000" in errors
