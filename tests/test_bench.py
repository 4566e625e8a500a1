"""The benchmark runner: what it measures, and what it says where it cannot."""

import contextlib
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sslfast import bench as command
from sslfast.errors import UserError

ROOT = Path(__file__).parent.parent
FLOOR = {"copy_bytes_per_second": 1e9, "matrix_flops_per_second": 1e12}


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """benchmarks/run.py of the checkout; torch's threads are as many afterwards as before."""
    monkeypatch.syspath_prepend(str(ROOT))
    threads = torch.get_num_threads()
    yield importlib.import_module("benchmarks.run")
    torch.set_num_threads(threads)


def sleeps(seconds: float) -> Callable[[], Callable[[], object]]:
    return lambda: lambda: time.sleep(seconds)


def missing() -> Callable[[], object]:
    raise ImportError("No module named 'kornia'")


def test_rows_hold_times_floor_and_what_is_missing(runner: Any) -> None:
    contenders = {"sslfast": sleeps(0.002), "pytorch": sleeps(0.02), "kornia": missing, "lightly": sleeps(0.1)}
    case = runner.Case("op", "case", "views", 10, contenders, least_bytes=1e6, least_flops=1e6)
    rows = runner.measure(case, runner.Setup("cpu", 1), ("pytorch", "kornia"), 0.0, FLOOR)
    ours, theirs, absent = rows
    assert [row["contender"] for row in rows] == ["sslfast", "pytorch", "kornia"]
    assert ours["calls"] == runner.LEAST_SAMPLES
    assert 0.002 <= ours["seconds_q1"] <= ours["seconds"] <= ours["seconds_q3"]
    assert theirs["seconds"] > 0.02
    assert ours["per_second"] == pytest.approx(10 / ours["seconds"])
    assert ours["floor_seconds"] == pytest.approx(1e-3)  # the copy takes longer than the arithmetic
    assert "pip install kornia" in absent["skipped"]
    assert "seconds" not in absent
    assert runner.table(case, rows).row_count == 3


def test_short_calls_on_a_gpu_are_timed_several_at_once(runner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait for the device is then a small part of a sample; the time is still that of one call."""
    calls, clock = [], [0.0]
    monkeypatch.setattr(runner.machine, "synchronise", lambda device: calls.append("wait"))
    monkeypatch.setattr(runner.machine.time, "perf_counter", lambda: clock[0])

    def call() -> dict[str, float]:
        calls.append("call")
        clock[0] += 0.001
        return {"part": 1.0}

    assert runner.machine.calls_a_sample(call, "cpu") == 1
    repeats = runner.machine.calls_a_sample(call, "cuda")
    assert repeats == 5
    calls.clear()
    seconds, result = runner.machine.timed(call, "cuda", repeats)
    assert calls == ["wait", *["call"] * repeats, "wait"]
    assert seconds == pytest.approx(0.001) and result == {"part": 1.0}


def test_a_contender_may_handle_fewer(runner: Any) -> None:
    """Its rate, its floor and the comparison are for the units that it handles."""
    few = runner.Fewer(lambda: time.sleep(0.01), 2)
    case = runner.Case("op", "case", "views", 10, {"sslfast": sleeps(0.005), "pytorch": lambda: few}, least_bytes=1e6)
    ours, theirs = runner.measure(case, runner.Setup("cpu", 1), (), 0.0, FLOOR)
    assert (ours["count"], theirs["count"]) == (10, 2)
    assert theirs["per_second"] == pytest.approx(2 / theirs["seconds"])
    assert theirs["floor_seconds"] == pytest.approx(ours["floor_seconds"] / 5)
    factor = ours["per_second"] / theirs["per_second"]
    assert factor > 5
    assert f"{factor:.1f} x" in list(runner.table(case, [ours, theirs]).columns[4].cells)


def test_a_library_that_fails_is_recorded(runner: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are measured, and the file is written; where sslfast fails, the command fails after that."""

    def broken() -> Callable[[], object]:
        raise ValueError("no such setting")

    module = importlib.import_module("benchmarks.ops.contrastive")
    monkeypatch.setattr(runner.machine, "measure_floor", lambda device: FLOOR)
    monkeypatch.setattr(runner, "SUITES", {"ops": {"nt_xent": "benchmarks.ops.contrastive"}})
    out = tmp_path / "result.json"

    def measured(**contenders: Callable[[], Callable[[], object]]) -> list[dict[str, Any]]:
        monkeypatch.setattr(module, "cases", lambda setup: [runner.Case("op", "case", "views", 1, contenders)])
        command.bench("ops", seconds=0.0, out=out)
        rows: list[dict[str, Any]] = json.loads(out.read_text())["rows"]
        return rows

    ours, theirs = measured(sslfast=sleeps(0.0), pytorch=broken)
    assert theirs["failed"] == "ValueError: no such setting" and ours["seconds"] > 0
    assert "no such setting" in out.with_suffix(".html").read_text()
    with pytest.raises(RuntimeError, match="sslfast failed in op: case: ValueError"):
        measured(sslfast=broken, pytorch=sleeps(0.0))
    assert "seconds" in json.loads(out.read_text())["rows"][1]


def test_what_ends_early_leaves_what_it_has(runner: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what an earlier run had measured of the other cases."""
    module = importlib.import_module("benchmarks.ops.contrastive")
    monkeypatch.setattr(runner.machine, "measure_floor", lambda device: FLOOR)
    monkeypatch.setattr(runner, "SUITES", {"ops": {"nt_xent": "benchmarks.ops.contrastive"}})
    out = tmp_path / "result.json"

    def suite(interrupted: bool) -> Any:
        for name in ("first", "second"):
            if interrupted and name == "second":
                raise KeyboardInterrupt
            yield runner.Case("op", name, "views", 1, {"sslfast": sleeps(0.0)})

    for interrupted in (False, True):
        monkeypatch.setattr(module, "cases", lambda setup, interrupted=interrupted: suite(interrupted))
        if interrupted:
            out.write_text(out.read_text().replace('"torch": "', '"torch": "earlier '))
        with pytest.raises(KeyboardInterrupt) if interrupted else contextlib.nullcontext():
            command.bench("ops", seconds=0.0, out=out)
    rows = json.loads(out.read_text())["rows"]
    assert {row["case"]: row["torch"].startswith("earlier") for row in rows} == {"first": False, "second": True}
    assert out.with_suffix(".html").is_file()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_peak_memory_counts_what_a_call_frees(runner: Any) -> None:
    machine = importlib.import_module("benchmarks.machine")
    peak = machine.peak_extra_bytes(lambda: torch.ones(16 << 20).sum(), "cpu")
    assert peak == pytest.approx(64 << 20, rel=0.1)


def test_suite_writes_json(runner: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite with small cases in place of the real ones."""
    cases = importlib.import_module("benchmarks.ops.contrastive")
    monkeypatch.setattr(cases, "cases", lambda setup: [cases.contrastive_case(setup, 8, 16)])
    monkeypatch.setattr(runner.machine, "measure_floor", lambda device: FLOOR)
    file = command.bench("ops", against=["pytorch"], only=["nt_xent"], seconds=0.0, out=tmp_path / "result.json")
    result = json.loads(file.read_text())
    assert [row["contender"] for row in result["rows"]] == ["sslfast", "pytorch", "pytorch, solo-learn's formula"]
    assert {"machine", "floor", "torch", "sslfast", "date", "suite"} <= result.keys()


def test_part_of_a_suite_keeps_the_other_cases(runner: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are replaced case by case; a whole suite starts anew."""
    cases = importlib.import_module("benchmarks.ops.contrastive")
    monkeypatch.setattr(runner.machine, "measure_floor", lambda device: FLOOR)
    monkeypatch.setattr(runner, "SUITES", {"ops": {"nt_xent": "benchmarks.ops.contrastive"}})
    out = tmp_path / "result.json"

    def measured(only: list[str], *sizes: int) -> list[dict[str, Any]]:
        monkeypatch.setattr(cases, "cases", lambda setup: [cases.contrastive_case(setup, size, 16) for size in sizes])
        command.bench("ops", against=["pytorch"], only=only, seconds=0.0, out=out)
        rows: list[dict[str, Any]] = json.loads(out.read_text())["rows"]
        return rows

    first = measured([], 8, 9)
    assert len(first) == 6 and all({"date", "torch", "threads"} <= row.keys() for row in first)
    out.write_text(out.read_text().replace(f'"torch": "{torch.__version__}"', '"torch": "1.0"'))
    second = measured(["nt_xent"], 9, 10)
    cases_of = [row["case"] for row in second]
    assert len(set(cases_of)) == 3 and all(cases_of.count(case) == 3 for case in cases_of)
    assert [row["torch"] for row in second] == ["1.0"] * 3 + [torch.__version__] * 6
    assert second[:3] == [row | {"torch": "1.0"} for row in first[:3]]
    assert len(measured([], 10)) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threads": -2}, "threads is -2; give 1 or more"),
        ({"seconds": -3.0}, "seconds is -3; give 0 or more"),
        ({"images": Path("nowhere")}, "there is no folder nowhere"),
        ({"device": "gpu"}, "device is 'gpu'"),
        ({"only": ["augmnet"]}, "unknown operation 'augmnet'.*augment"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        command.bench("ops", **arguments)


def test_file_of_something_else_is_not_overwritten(tmp_path: Path) -> None:
    """It is named before anything is measured."""
    out = tmp_path / "notes.json"
    out.write_text("{}")
    with pytest.raises(UserError, match="holds no results of `sslfast bench`"):
        command.bench("ops", out=out)
    assert out.read_text() == "{}"


def test_without_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sslfast.__file__", str(tmp_path / "site-packages" / "sslfast" / "__init__.py"))
    with pytest.raises(UserError, match="inside a checkout"):
        command.bench("ops")
