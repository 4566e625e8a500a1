"""The benchmark runner: every library on the same inputs, in one process, in turn.

A case module defines `cases(setup) -> Iterator[Case]`, or functions of that form, which may take a name besides. A case
names its contenders, sslfast first; the runner calls them in turn, so that whatever else the machine does hits all
alike, and keeps every case, won or lost.
"""

from __future__ import annotations

import datetime
import importlib
import importlib.metadata
import math
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import machine, schema
from benchmarks.page import draw
from benchmarks.schema import library_of
from sslfast.errors import UserError
from sslfast.info import DALI
from sslfast.registry import METHODS, nearest
from sslfast.train.config import find_device


def _installed(*names: str) -> str:
    """The one of these distributions that is installed; the first where none is."""
    return next((name for name in names if any(importlib.metadata.distributions(name=name))), names[0])


SUITES = {  # suite -> operation -> module of its cases, its function where that is not `cases`, and what it is told
    "ops": {
        "augment": "benchmarks.ops.augment",
        "distortions": "benchmarks.ops.distortions",
        "nt_xent": "benchmarks.ops.contrastive",
        "lab": "benchmarks.ops.lab",
        "patch_grid": "benchmarks.ops.patch_grid",
        "knn": "benchmarks.ops.knn",
        "losses": "benchmarks.ops.losses",
        "small_losses": "benchmarks.ops.losses:batches",
    },
    "data": {"photos": "benchmarks.data.photos"},
    "train": {name: f"benchmarks.train.pretraining:cases:{name}" for name in METHODS}
    | {"drop_in": "benchmarks.train.drop_in"},
    "scaling": {
        "nt_xent": "benchmarks.scaling.contrastive",
        "augment": "benchmarks.scaling.images:views",
        "threads": "benchmarks.scaling.images:threads",
        "lab": "benchmarks.scaling.images:lab",
        "patch_grid": "benchmarks.scaling.images:patches",
        "ranks": "benchmarks.scaling.ranks",
    },
}
PEERS = {  # name of the contender -> distribution on the package index
    "lightly": "lightly",
    "inf-cl": "inf-cl",
    "kornia": "kornia",
    "torchvision": "torchvision",
    "cv-cuda": _installed("cvcuda-cu13", "cvcuda-cu12"),
    "albumentations": "albumentations",
    "opencv": "opencv-python-headless",
    "scikit-image": "scikit-image",
    "faiss": "faiss-cpu",
    "pytorch": "torch",
    "dali": _installed(*DALI),
}
OUTSIDE_TORCH = ("dali", "cv-cuda")  # on a GPU they allocate memory that torch does not count
LEAST_SAMPLES = 5
MOST_SAMPLES = 1000
TABLE_WIDTH = 150
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
            library with several settings is named "library, setting". A call may return the seconds of its parts. One
            that is too slow for the whole count is a `Fewer`.
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


@dataclass
class Fewer:
    """A call that handles only `count` of a case's units: rates are compared, and nobody waits for minutes."""

    call: Callable[[], object]
    count: float

    def __call__(self) -> object:
        return self.call()


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
    check_names(suite, against, only)
    setup = set_up(device, threads, images)
    if seconds < 0:
        raise UserError(f"seconds is {seconds:g}; give 0 or more")
    console = Console()
    console.width = max(console.width, TABLE_WIDTH)  # whole rows in a pipe or file, too
    facts = machine.describe(setup.device, setup.threads)
    out = out or RESULTS / f"{suite}--{facts['name']}.json"
    if out.exists():
        schema.read(out)  # whose other rows stay: what cannot be added to is known before anything is measured
    floor = machine.measure_floor(setup.device)
    console.print(
        f"{facts['name']}, {setup.threads} threads, torch {torch.__version__}; floor: copy "
        f"{floor['copy_bytes_per_second'] / 1e9:.1f} GB/s, matrix {floor['matrix_flops_per_second'] / 1e12:.2f} TFLOP/s"
    )
    header = {
        "suite": suite,
        "date": datetime.date.today().isoformat(),
        "machine": facts,
        "floor": floor,
        "torch": torch.__version__,
        "sslfast": importlib.metadata.version("sslfast"),
    }
    rows: list[dict[str, Any]] = []
    try:
        for case in cases_of(suite, only, setup):
            measured = measure(case, setup, against, seconds, floor)
            console.print(table(case, measured))
            for line in map(parts_of, measured):
                if line:
                    console.print(line)
            threads_used = case.settings.get("threads", setup.threads)
            facts_of_row = {"date": header["date"], "torch": header["torch"], "threads": threads_used}
            rows += [row | facts_of_row for row in measured]
            # After every case, so that what ends early leaves what it has.
            schema.write(out, header | {"rows": other_cases(out, rows) + rows})
        if rows and not only:
            schema.write(out, header | {"rows": rows})
    finally:
        if rows:
            draw(out)
    failed = [row for row in rows if "failed" in row and library_of(row["contender"]) == "sslfast"]
    if failed:
        raise RuntimeError(
            "sslfast failed in " + "; ".join(f"{row['op']}: {row['case']}: {row['failed']}" for row in failed)
        )
    return out


def check_names(suite: str, against: Sequence[str], only: Sequence[str]) -> None:
    """Raises UserError with the nearest names where one is unknown."""
    for kind, given, known, where in (
        ("suite", [suite], SUITES, ""),
        ("library", against, PEERS, ""),
        ("operation", only, SUITES.get(suite, {}), f" of suite {suite!r}"),
    ):
        for name in given:
            if name not in known:
                raise UserError(f"unknown {kind} {name!r}{where}; {nearest(name, list(known))}")


def set_up(device: str, threads: int, images: Path | None) -> Setup:
    """What the cases are made from, with "auto" and 0 threads resolved; torch uses that many threads from here on."""
    device = find_device(device)
    if threads < 0:
        raise UserError(f"threads is {threads}; give 1 or more, or 0 for all cores")
    if images is not None and not images.is_dir():
        raise UserError(f"there is no folder {images}; --images names a folder of pictures")
    threads = threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    if device == "cuda":
        memory = torch.cuda.get_device_properties(0).total_memory
    else:
        memory = machine.describe(device, threads)["memory_bytes"]
    return Setup(device, threads, images, memory)


def cases_of(suite: str, only: Sequence[str], setup: Setup) -> Iterator[Case]:
    """The cases of a suite, or of some of its operations; each is made when it is asked for."""
    for op in only or SUITES[suite]:
        module, *function = SUITES[suite][op].split(":")
        name, *arguments = function or ["cases"]
        yield from getattr(importlib.import_module(module), name)(setup, *arguments)


def other_cases(file: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of an earlier run in `file` whose cases are not in `rows`; each names its date, torch and threads."""
    if not file.exists():
        return []
    earlier = schema.read(file)
    facts = {"date": earlier["date"], "torch": earlier["torch"], "threads": earlier["machine"]["threads"]}
    measured = {(row["op"], row["case"]) for row in rows}
    return [facts | row for row in earlier["rows"] if (row["op"], row["case"]) not in measured]


def measure(
    case: Case, setup: Setup, against: Sequence[str], seconds: float, floor: dict[str, float]
) -> list[dict[str, Any]]:
    """One row for each contender of a case: times in seconds, peak extra memory in bytes."""
    rows: list[dict[str, Any]] = []
    ready: list[tuple[dict[str, Any], Callable[[], object]]] = []
    for name in case.contenders:
        if against and library_of(name) not in (*against, "sslfast"):
            continue
        row, call = prepare(case, name, setup, floor)
        rows.append(row)
        if call is not None:
            ready.append((row, call))
    samples = _in_turn([call for _, call in ready], setup.device, seconds)
    for (row, _), (values, calls, parts) in zip(ready, samples, strict=True):
        first, median, third = statistics.quantiles(values, n=4)
        row |= {"calls": calls * len(values), "seconds": median, "seconds_q1": first, "seconds_q3": third}
        row["per_second"] = row["count"] / median
        if isinstance(parts, dict):
            row["parts"] = parts
    return rows


def prepare(
    case: Case, name: str, setup: Setup, floor: dict[str, float]
) -> tuple[dict[str, Any], Callable[[], object] | None]:
    """What is known of a contender before it is timed, and its warmed-up call; none where it is missing or fails."""
    row: dict[str, Any] = {"op": case.op, "case": case.name, "settings": case.settings, "contender": name}
    row |= {"unit": case.unit, "axis": case.axis, "least_bytes": case.least_bytes, "least_flops": case.least_flops}
    distribution = PEERS.get(library_of(name), library_of(name))
    # Not this process's memory, or not torch's.
    elsewhere = "workers" in name or not case.in_process
    elsewhere |= setup.device == "cuda" and library_of(name) in OUTSIDE_TORCH
    try:
        call = case.contenders[name]()
        call()
        peak = None if elsewhere else machine.peak_extra_bytes(call, setup.device)
    except ImportError as error:
        return row | {"skipped": f"{error}; `pip install {distribution}` brings it"}, None
    except Exception as error:  # whatever one library does, the others are measured
        return row | {"failed": f"{type(error).__name__}: {error}"[:500]}, None
    count = call.count if isinstance(call, Fewer) else case.count
    least = max(case.least_bytes / floor["copy_bytes_per_second"], case.least_flops / floor["matrix_flops_per_second"])
    row |= {"version": importlib.metadata.version(distribution), "peak_extra_bytes": peak, "count": count}
    return row | {"floor_seconds": least * count / case.count}, call


def _in_turn(calls: list[Callable[[], object]], device: str, seconds: float) -> list[tuple[list[float], int, object]]:
    """Times of each call, how many calls one time averages, and what the last call returned, if that is a dictionary.

    Taken in rounds; each call has at least five samples, and at most `seconds` beyond that.
    """
    times: list[list[float]] = [[] for _ in calls]
    parts: list[object] = [None] * len(calls)
    repeats = [machine.calls_a_sample(call, device) for call in calls]
    while True:
        waiting = [
            i
            for i, taken in enumerate(times)
            if len(taken) < LEAST_SAMPLES or (repeats[i] * sum(taken) < seconds and len(taken) < MOST_SAMPLES)
        ]
        if not waiting:
            return list(zip(times, repeats, parts, strict=True))
        for i in waiting:
            duration, result = machine.timed(calls[i], device, repeats[i])
            times[i].append(duration)
            if isinstance(result, dict):
                parts[i] = result
            del result  # it may be large


def table(case: Case, rows: list[dict[str, Any]]) -> Table:
    """The rows of a case beside each other; sslfast is the first."""
    view = Table(title=f"{case.op}: {case.name}", title_justify="left")
    view.add_column("library", no_wrap=True)
    for heading in ("median (quartiles), ms", f"{case.unit}/s", "extra memory", "sslfast is faster by", "of the floor"):
        view.add_column(heading, justify="right", no_wrap=True)
    ours = next((row["per_second"] for row in rows if row["contender"] == "sslfast" and "seconds" in row), None)
    for row in rows:
        if "seconds" not in row:
            view.add_row(row["contender"], "not installed" if "skipped" in row else row["failed"].splitlines()[0][:60])
            continue
        median, first, third = (1e3 * row[name] for name in ("seconds", "seconds_q1", "seconds_q3"))
        peak, least = row["peak_extra_bytes"], row["floor_seconds"]
        view.add_row(
            f"{row['contender']} ({row['version']})",
            f"{median:.2f} ({first:.2f} to {third:.2f})",
            f"{row['per_second']:,.{0 if row['per_second'] >= 100 else 2}f}",
            "" if peak is None else f"{peak / 2**20:.1f} MiB",
            "" if row["contender"] == "sslfast" or not ours else f"{ours / row['per_second']:.1f} x",
            f"{100 * least / row['seconds']:.1f} %" if least else "",
        )
    return view


def parts_of(row: dict[str, Any]) -> str:
    """Where the time of a row went, on one line; empty where its call did not say."""
    parts = row.get("parts", {})
    shares = ", ".join(f"{name} {100 * seconds / sum(parts.values()):.0f} %" for name, seconds in parts.items())
    return f"{row['contender']}: {shares}" if shares else ""
