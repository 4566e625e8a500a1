"""The benchmark runner: every library on the same inputs, in one process, in turn.

A case module defines `cases(setup) -> Iterator[Case]`, or functions of that form. A case names its contenders, sslfast
first; the runner calls them in turn, so that whatever else the machine does hits all alike, and keeps every case, won
or lost.
"""

from __future__ import annotations

import datetime
import importlib
import importlib.metadata
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.page import draw
from sslfast.errors import UserError
from sslfast.info import DALI
from sslfast.registry import nearest

SUITES = {
    "ops": {
        "augment": "benchmarks.ops.augment",
        "nt_xent": "benchmarks.ops.contrastive",
        "lab": "benchmarks.ops.lab",
        "patch_grid": "benchmarks.ops.patch_grid",
        "knn": "benchmarks.ops.knn",
        "losses": "benchmarks.ops.losses",
    },
    "data": {"photos": "benchmarks.data.photos"},
    "train": {name: f"benchmarks.train.pretraining:{name}" for name in ("simclr", "moco", "byol", "simsiam")}
    | {"drop_in": "benchmarks.train.drop_in"},
    "scaling": {
        "nt_xent": "benchmarks.scaling.contrastive",
        "augment": "benchmarks.scaling.augment",
        "ranks": "benchmarks.scaling.ranks",
    },
}
PEERS = {  # name of the contender -> distribution on the package index
    "lightly": "lightly",
    "inf-cl": "inf-cl",
    "kornia": "kornia",
    "torchvision": "torchvision",
    "albumentations": "albumentations",
    "opencv": "opencv-python-headless",
    "scikit-image": "scikit-image",
    "faiss": "faiss-cpu",
    "pytorch": "torch",
    "dali": next((name for name in DALI if any(importlib.metadata.distributions(name=name))), DALI[0]),
}
LEAST_CALLS = 5
TABLE_WIDTH = 130
RESULTS = Path(__file__).parent / "results"


@dataclass
class Setup:
    """What the cases are made from."""

    device: str
    threads: int
    images: Path | None = None
    memory_bytes: float = math.inf


@dataclass
class Case:
    """One measured situation.

    Attributes:
        op: the operation of sslfast that is measured.
        name: the situation, in a few words.
        unit: what a call makes or handles, in the plural.
        count: how many of them a call makes.
        contenders: library -> call that makes its contender, whose call is timed; ImportError means not installed. A
            library with several settings is named "library, setting". A call may return the seconds of its parts.
        least_bytes: bytes that any implementation must read and write.
        least_flops: floating-point operations that any implementation must do.
        settings: sizes and parameters, for the record.
        axis: the setting that grows from case to case, if any: such cases are drawn as lines over it.
        in_process: whether the work, and so its memory, is this process's.
    """

    op: str
    name: str
    unit: str
    count: float
    contenders: dict[str, Callable[[], Callable[[], object]]]
    least_bytes: float = 0.0
    least_flops: float = 0.0
    settings: dict[str, Any] = field(default_factory=dict)
    axis: str = ""
    in_process: bool = True


def run_suite(
    suite: str,
    *,
    against: Sequence[str],
    only: Sequence[str],
    images: Path | None,
    device: str,
    threads: int,
    seconds: float,
    out: Path | None,
) -> Path:
    """Measures a suite, prints its table and writes the JSON; `sslfast.bench.bench` documents the arguments."""
    if suite not in SUITES:
        raise UserError(f"unknown suite {suite!r}; {nearest(suite, list(SUITES))}")
    for name in against:
        if name not in PEERS:
            raise UserError(f"unknown library {name!r}; {nearest(name, list(PEERS))}")
    for name in only:
        if name not in SUITES[suite]:
            raise UserError(f"unknown operation {name!r} of suite {suite!r}; {nearest(name, list(SUITES[suite]))}")
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"unknown device {device!r}; {nearest(device, ['auto', 'cpu', 'cuda'])}")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device 'cuda' asked for, but torch finds no CUDA GPU; use --device cpu")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    threads = threads or os.cpu_count() or 1
    torch.set_num_threads(threads)

    console = Console()
    console.width = max(console.width, TABLE_WIDTH)  # whole rows in a pipe or file, too
    facts = machine.describe(device, threads)
    floor = machine.measure_floor(device)
    console.print(
        f"{facts['name']}, {threads} threads, torch {torch.__version__}; floor: copy "
        f"{floor['copy_bytes_per_second'] / 1e9:.1f} GB/s, matrix {floor['matrix_flops_per_second'] / 1e12:.2f} TFLOP/s"
    )
    memory = torch.cuda.get_device_properties(0).total_memory if device == "cuda" else facts["memory_bytes"]
    setup = Setup(device, threads, images, memory)
    rows: list[dict[str, Any]] = []
    for op in only or SUITES[suite]:
        module, _, function = SUITES[suite][op].partition(":")
        for case in getattr(importlib.import_module(module), function or "cases")(setup):
            measured = measure(case, setup, against, seconds, floor)
            console.print(table(case, measured))
            for line in map(parts_of, measured):
                if line:
                    console.print(line)
            rows += measured
    date = datetime.date.today().isoformat()
    rows = [row | {"date": date, "torch": torch.__version__, "threads": threads} for row in rows]
    out = out or RESULTS / f"{suite}--{facts['name']}.json"
    result = {
        "suite": suite,
        "date": date,
        "machine": facts,
        "floor": floor,
        "torch": torch.__version__,
        "sslfast": importlib.metadata.version("sslfast"),
        "rows": other_cases(out, rows) + rows if only else rows,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    draw(out)
    return out


def other_cases(file: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of an earlier run in `file` whose cases are not in `rows`; each names its date, torch and threads."""
    if not file.exists():
        return []
    earlier = json.loads(file.read_text())
    facts = {"date": earlier["date"], "torch": earlier["torch"], "threads": earlier["machine"]["threads"]}
    measured = {(row["op"], row["case"]) for row in rows}
    return [facts | row for row in earlier["rows"] if (row["op"], row["case"]) not in measured]


def measure(
    case: Case, setup: Setup, against: Sequence[str], seconds: float, floor: dict[str, float]
) -> list[dict[str, Any]]:
    """One row for each contender of a case: times in seconds, peak extra memory in bytes."""
    rows: list[dict[str, Any]] = []
    calls: list[Callable[[], object]] = []
    least = max(case.least_bytes / floor["copy_bytes_per_second"], case.least_flops / floor["matrix_flops_per_second"])
    for name, make in case.contenders.items():
        library = name.partition(",")[0]
        if against and library not in (*against, "sslfast"):
            continue
        row = {"op": case.op, "case": case.name, "settings": case.settings, "contender": name, "unit": case.unit}
        row |= {"axis": case.axis, "least_bytes": case.least_bytes, "least_flops": case.least_flops}
        try:
            call = make()
        except ImportError as error:
            rows.append(row | {"skipped": f"{error}; `pip install 'sslfast[compare]'` brings the peers"})
            continue
        call()
        # The memory of worker processes is not this process's.
        elsewhere = "workers" in name or not case.in_process
        peak = None if elsewhere else machine.peak_extra_bytes(call, setup.device)
        version = importlib.metadata.version(PEERS.get(library, library))
        rows.append(row | {"version": version, "peak_extra_bytes": peak, "floor_seconds": least})
        calls.append(call)
    times = _in_turn(calls, setup.device, seconds)
    for row, values in zip((row for row in rows if "skipped" not in row), times, strict=True):
        first, median, third = statistics.quantiles(values, n=4)
        row |= {"calls": len(values), "seconds": median, "seconds_q1": first, "seconds_q3": third}
        row["per_second"] = case.count / median
    for row, call in zip((row for row in rows if "skipped" not in row), calls, strict=True):
        parts = call()
        if isinstance(parts, dict):
            row["parts"] = parts
    return rows


def _in_turn(calls: list[Callable[[], object]], device: str, seconds: float) -> list[list[float]]:
    """Times of each call, taken in rounds; each has at least five, and at most `seconds` beyond that."""
    times: list[list[float]] = [[] for _ in calls]
    while True:
        waiting = [i for i, taken in enumerate(times) if len(taken) < LEAST_CALLS or sum(taken) < seconds]
        if not waiting or max(map(len, times)) >= 1000:
            return times
        for i in waiting:
            machine.synchronise(device)
            begin = time.perf_counter()
            calls[i]()
            machine.synchronise(device)
            times[i].append(time.perf_counter() - begin)


def table(case: Case, rows: list[dict[str, Any]]) -> Table:
    """The rows of a case beside each other; sslfast is the first."""
    view = Table(title=f"{case.op}: {case.name}", title_justify="left")
    view.add_column("library", no_wrap=True)
    for heading in ("median (quartiles), ms", f"{case.unit}/s", "extra memory", "sslfast is faster by", "of the floor"):
        view.add_column(heading, justify="right", no_wrap=True)
    ours = next((row["seconds"] for row in rows if row["contender"] == "sslfast" and "seconds" in row), None)
    for row in rows:
        if "skipped" in row:
            view.add_row(row["contender"], "not installed")
            continue
        median, first, third = (1e3 * row[name] for name in ("seconds", "seconds_q1", "seconds_q3"))
        peak, least = row["peak_extra_bytes"], row["floor_seconds"]
        view.add_row(
            f"{row['contender']} ({row['version']})",
            f"{median:.2f} ({first:.2f} to {third:.2f})",
            f"{row['per_second']:,.{0 if row['per_second'] >= 100 else 2}f}",
            "" if peak is None else f"{peak / 2**20:.1f} MiB",
            "" if row["contender"] == "sslfast" or not ours else f"{row['seconds'] / ours:.1f} x",
            f"{100 * least / row['seconds']:.1f} %" if least else "",
        )
    return view


def parts_of(row: dict[str, Any]) -> str:
    """Where the time of a row went, on one line; empty where its call did not say."""
    parts = row.get("parts", {})
    shares = ", ".join(f"{name} {100 * seconds / sum(parts.values()):.0f} %" for name, seconds in parts.items())
    return f"{row['contender']}: {shares}" if shares else ""
