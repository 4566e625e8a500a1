from __future__ import annotations

import csv
import time

import pytest
import torch

from sslfast.errors import DataError
from sslfast.train.log import Display, Metrics, Stopwatch


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_resume_drops_rows_of_unfinished_epochs(tmp_path):
    path = tmp_path / "metrics.csv"
    metrics = Metrics(path)
    for epoch in (1, 2, 3):
        metrics.append({"epoch": epoch, "loss": 1 / epoch})
    before = rows(path)
    resumed = Metrics(path, epoch=2)
    resumed.append({"epoch": 3, "loss": 9.0})
    assert rows(path) == [*before[:2], {"epoch": "3", "loss": "9.0"}]
    Metrics(path).append({"epoch": 1, "loss": 7.0})
    assert rows(path) == [{"epoch": "1", "loss": "7.0"}]


def test_a_late_scalar_gets_a_column(tmp_path):
    metrics = Metrics(tmp_path / "metrics.csv")
    metrics.append({"epoch": 1, "loss": 1.0})
    metrics.append({"epoch": 2, "loss": 1.0, "accuracy": 0.5})
    assert [row["accuracy"] for row in rows(tmp_path / "metrics.csv")] == ["", "0.5"]


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,loss\none,2\n")
    with pytest.raises(DataError, match=f"cannot read {path}.*remove the file, then resume again"):
        Metrics(path, epoch=1)


def test_stopwatch_gives_shares_of_the_time():
    stopwatch = Stopwatch(torch.device("cpu"))
    for _ in range(2):
        with stopwatch("slow"):
            time.sleep(0.03)
        with stopwatch("fast"):
            time.sleep(0.01)
    shares = stopwatch.shares()
    assert sum(shares.values()) == pytest.approx(1.0)
    assert 0.55 < shares["slow_share"] < 0.95
    assert stopwatch.shares() == {}


def test_one_line_an_epoch_without_a_terminal(capsys):
    display = Display(epochs=10, steps=50, step=0)
    display.step(1, 3, loss=0.5, speed=10.0)
    display.epoch(1, {"loss": 0.25, "images_per_second": 1234.5}, seconds_left=61.0)
    display.close()
    assert capsys.readouterr().out == "epoch 1/10  loss 0.2500  1,234 images/s  left 1:01\n"


def test_a_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    display = Display(epochs=10, steps=50, step=0)
    display.step(2, 9, loss=0.5, speed=1234.0)
    display.epoch(2, {"loss": 0.25, "images_per_second": 1234.5}, seconds_left=61.0)
    display.close()
    text = capsys.readouterr().out
    assert "epoch 2/10" in text and "loss 0.5000" in text and "1,234 images/s" in text


def test_other_ranks_are_silent(capsys):
    display = Display(epochs=10, steps=50, step=0, on=False)
    display.step(1, 3, loss=0.5, speed=10.0)
    display.epoch(1, {"loss": 0.25, "images_per_second": 1.0}, seconds_left=1.0)
    display.close()
    assert capsys.readouterr().out == ""
