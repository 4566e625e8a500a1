"""Runs of several processes, and of the command itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sslfast.errors import TrainingError
from sslfast.train import TrainConfig, pretrain

TESTS = Path(__file__).parents[1]
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


def command(config, *prefix):
    options = vars(config).items()
    return [
        *(sys.executable, *prefix, "-m", "sslfast", "pretrain"),
        *(f"--{name}={value}" for name, value in options if value is not None and name != "method_options"),
        *(f"--method_options.{name}={value}" for name, value in (config.method_options or {}).items()),
    ]


def environment(**extra):
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **extra}


def test_two_processes_started_here_train_as_one(tiny, weights, metrics):
    changes = {"backbone": "train.tiny:PlainBackbone", "method_options": {"noise": 0.0}}
    one, two = pretrain(tiny("one", **changes)), pretrain(tiny("two", devices=2, **changes))
    for name, value in weights(one).items():
        torch.testing.assert_close(weights(two)[name], value, rtol=1e-4, atol=1e-6, msg=name)
    for row, other in zip(metrics(one), metrics(two), strict=True):
        assert {k: float(v) for k, v in row.items()} == pytest.approx({k: float(v) for k, v in other.items()}, rel=1e-4)


def test_torchrun_and_a_resume_in_mid_epoch(tiny, tmp_path, weights, metrics):
    """60 images are 7 batches of 2 x 4; the second run is stopped by a signal in its second epoch, and resumed."""
    options = {"method": "Recording", "method_options": {"folder": str(tmp_path)}, "data_options": {"count": 60}}
    straight = tiny("straight", **options)
    subprocess.run(command(straight, *TORCHRUN), check=True, env=environment(), timeout=300)
    ranks = [torch.load(tmp_path / f"{rank}-21.pt", weights_only=False) for rank in (0, 1)]
    for name, value in ranks[0]["weights"].items():
        assert torch.equal(value, ranks[1]["weights"][name]), name
    for epoch in range(3):
        batches = [batch for rank in ranks for batch in rank["seen"][7 * epoch : 7 * epoch + 7]]
        assert [len(batch) for batch in batches] == [4] * 14
        assert len({index for batch in batches for index in batch}) == 56

    stopped = tiny("stopped", devices=2, **options)
    result = subprocess.run(
        command(stopped), env=environment(TINY_STOP_AT="8"), timeout=300, stderr=subprocess.PIPE, text=True
    )
    assert result.returncode == 143
    # Ranks agree on a stop at every tenth step.
    assert "sslfast: stopped by SIGTERM at step 10 of 21" in result.stderr and "Traceback" not in result.stderr
    run = pretrain(TrainConfig(out=stopped.out), resume=True)
    for name, value in weights(Path(straight.out)).items():
        assert torch.equal(weights(run)[name], value), name
    assert metrics(run) == metrics(Path(straight.out))


def test_a_signal_to_one_rank_stops_all_at_the_end_of_an_epoch(tiny, tmp_path, weights, metrics):
    """Rank 1 alone gets the signal; the ranks agree at step 10, the last one of the second epoch."""
    options = {"method": "Recording", "method_options": {"folder": str(tmp_path)}, "devices": 2}
    straight, stopped = tiny("straight", **options), tiny("stopped", **options)
    pretrain(straight)
    result = subprocess.run(
        command(stopped),
        env=environment(TINY_STOP_AT="8", TINY_STOPS="1"),
        timeout=300,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert result.returncode == 143
    assert "sslfast: stopped by SIGTERM at step 10 of 15" in result.stderr and "Traceback" not in result.stderr
    assert [row["epoch"] for row in metrics(Path(stopped.out))] == ["1", "2"]
    run = pretrain(TrainConfig(out=stopped.out), resume=True)
    for name, value in weights(Path(straight.out)).items():
        assert torch.equal(weights(run)[name], value), name
    assert metrics(run) == metrics(Path(straight.out))


def test_an_error_of_started_processes_keeps_its_type(tiny):
    with pytest.raises(TrainingError, match="the loss is nan at step 2 "):
        pretrain(tiny(devices=2, method="Diverging"))


def test_sigterm_ends_the_command_with_a_checkpoint(tiny):
    config = tiny(epochs=100_000)
    run = Path(config.out)
    process = subprocess.Popen(command(config), env=environment(), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (run / "last.ckpt").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    step = torch.load(run / "last.ckpt", weights_only=True)["position"]["step"]
    assert f"sslfast: stopped by SIGTERM at step {step} of 500000; saved {run}/last.ckpt" in errors
    assert f"continue with: sslfast pretrain --resume --out {run}" in errors and "Traceback" not in errors
