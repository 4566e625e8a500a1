"""The benchmarks under pytest-benchmark: every contender of a case is timed, and only where it is asked for."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent


def pytest_benchmarks(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "benchmarks", "--threads", "1", "-p", "no:cacheprovider", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=dict(os.environ))


def test_contenders_of_a_case_are_one_group(tmp_path: Path):
    out = tmp_path / "result.json"
    options = ["--only", "patch_grid", "-k", "jigsaw and 30", "--benchmark-max-time", "0.01"]
    done = pytest_benchmarks("--benchmark-only", f"--benchmark-json={out}", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    results: list[dict[str, Any]] = json.loads(out.read_text())["benchmarks"]
    setup = importlib.import_module("benchmarks.run").Setup("cpu", 1)
    case = list(importlib.import_module("benchmarks.ops.patch_grid").cases(setup))[-1]
    assert [result["name"] for result in results] == list(case.contenders)
    assert {result["group"] for result in results} == {f"{case.op}: {case.name}"}
    for result in results:
        facts = result["extra_info"]
        assert facts["per_second"] == pytest.approx(case.count / result["stats"]["median"])
        assert facts["peak_extra_bytes"] >= 0 and facts["floor_seconds"] > 0 and facts["version"]


def test_unknown_operation_is_named():
    done = pytest_benchmarks("--collect-only", "--only", "patchgrid")
    assert done.returncode != 0
    assert "patch_grid" in done.stdout + done.stderr


def test_the_ordinary_suite_leaves_them_out(pytestconfig: pytest.Config):
    assert pytestconfig.getini("testpaths") == ["tests"]
