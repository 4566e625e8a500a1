"""What a run tells while it trains: metrics.csv, TensorBoard, and the progress bar or lines."""

from __future__ import annotations

import csv
import io
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from sslfast.errors import DataError, TrainingError
from sslfast.train.checkpoint import last_good, write_atomically

METRICS_FILE = "metrics.csv"
TENSORBOARD_FOLDER = "tb"


class Metrics:
    """metrics.csv: a row an epoch; the columns are the union of the rows' in order of appearance.

    Args:
        path: the file; rows of epochs up to `epoch` are kept, later ones (of a run that is resumed) are dropped.
        epoch: epochs that are finished.

    Raises:
        DataError: the file is damaged.
    """

    def __init__(self, path: Path, epoch: int = 0) -> None:
        self.path = path
        self.rows: list[dict[str, float | str]] = []
        if epoch and path.exists():
            try:
                with path.open(newline="", encoding="utf-8") as file:
                    self.rows = [dict(row) for row in csv.DictReader(file) if int(row["epoch"]) <= epoch]
            except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
                raise DataError(f"cannot read {path}: {error}; remove the file, then resume again") from error

    def append(self, row: dict[str, float]) -> None:
        """Adds a row and writes the file.

        Raises:
            TrainingError: the file cannot be written.
        """
        self.rows.append({**row})
        columns = dict.fromkeys(name for row in self.rows for name in row)
        text = io.StringIO()
        writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_atomically(self.path, text.getvalue().encode())


class Stopwatch:
    """Seconds spent in the named parts of a loop, without waiting for the device.

    On CUDA a part is timed between two events of the stream, which `read` looks at later.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []
        self._seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Times what runs inside as `part`."""
        if self._cuda:
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            yield
            end.record()
            self._events.append((part, begin, end))
        else:
            started = time.perf_counter()
            yield
            self._add(part, time.perf_counter() - started)

    def collect(self) -> None:
        """Adds up the events so far; waits for the last of them."""
        for part, begin, end in self._events:
            end.synchronize()
            self._add(part, begin.elapsed_time(end) / 1e3)
        self._events.clear()

    def shares(self) -> dict[str, float]:
        """Share of the time in every part, in [0, 1], and a fresh start."""
        self.collect()
        total = sum(self._seconds.values()) or 1.0
        shares = {f"{part}_share": seconds / total for part, seconds in self._seconds.items()}
        self._seconds = {}
        return shares

    def _add(self, part: str, seconds: float) -> None:
        self._seconds[part] = self._seconds.get(part, 0.0) + seconds


class Display:
    """A progress bar on a terminal, one line an epoch elsewhere.

    Args:
        epochs: of the whole run.
        steps: of the whole run.
        step: steps that are done.
        on: False shows nothing (on ranks other than the first).
    """

    def __init__(self, epochs: int, steps: int, step: int, on: bool = True) -> None:
        self.epochs = epochs
        self._on = on
        self._bar: Progress | None = None
        if on and sys.stdout.isatty():
            self._bar = Progress(
                TextColumn("epoch {task.fields[epoch]}/" + str(epochs)),
                BarColumn(),
                TextColumn("loss {task.fields[loss]:.4f}  {task.fields[speed]:,.0f} images/s  left"),
                TimeRemainingColumn(),
                console=Console(file=sys.stdout),
            )
            self._task = self._bar.add_task("", total=steps, completed=step, epoch=1, loss=float("nan"), speed=0.0)
            self._bar.start()

    def step(self, epoch: int, step: int, loss: float, speed: float) -> None:
        """Shows that `step` optimiser steps are done, in epoch `epoch` (from 1)."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step, epoch=epoch, loss=loss, speed=speed)

    def epoch(self, epoch: int, row: dict[str, float], seconds_left: float) -> None:
        """Shows the finished epoch's row of metrics."""
        if self._on and self._bar is None:
            minutes, seconds = divmod(round(seconds_left), 60)
            print(
                f"epoch {epoch}/{self.epochs}  loss {row['loss']:.4f}  "
                f"{row['images_per_second']:,.0f} images/s  left {minutes}:{seconds:02d}",
                flush=True,
            )

    def close(self) -> None:
        """Leaves the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()


class TensorBoard:
    """Scalars for TensorBoard, in the run's `tb` folder.

    Args:
        out: the run folder.
        step: steps that are done; later ones, from before a resume, are hidden.

    Raises:
        TrainingError: the folder cannot be written.
    """

    def __init__(self, out: Path, step: int) -> None:
        self._out = out
        self._failure: OSError | None = None
        try:
            self._writer = SummaryWriter(str(out / TENSORBOARD_FOLDER), purge_step=step + 1 if step else None)
        except OSError as error:
            self._failure = error
            self.check()

    def add(self, step: int, scalars: dict[str, float]) -> None:
        """Logs scalars of one step; `check` tells whether that worked."""
        try:
            for name, value in scalars.items():
                self._writer.add_scalar(name, value, step)
        except OSError as error:
            self._failure = error

    def check(self) -> None:
        """Raises TrainingError when something could not be written."""
        if self._failure is not None:
            raise TrainingError(
                f"cannot write {self._out / TENSORBOARD_FOLDER}: {self._failure.strerror or self._failure}; free space "
                f"there, then continue with --resume; {last_good(self._out)}"
            ) from self._failure

    def close(self) -> None:
        """Writes what is buffered, as far as it can be written."""
        with suppress(OSError):
            self._writer.close()
