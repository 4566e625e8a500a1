"""The benchmarks under pytest-benchmark: every contender of a case is timed, and only where it is asked for."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sslfast.errors import UserError

ROOT = Path(__file__).parent.parent.parent


def test_contenders_of_a_case_are_one_group(tmp_path: Path):
    out = tmp_path / "result.json"
    command = [sys.executable, "-m", "pytest", "benchmarks", "--benchmark-only", "-p", "no:cacheprovider"]
    command += ["--threads", "1", "--only", "patch_grid", "-k", "jigsaw and 30"]
    command += ["--benchmark-max-time", "0.01", f"--benchmark-json={out}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
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


@pytest.mark.parametrize(
    ("names", "nearest"),
    [
        (("opps", (), ()), "ops"),
        (("ops", ("kornja",), ()), "kornia"),
        (("ops", (), ("patchgrid",)), "patch_grid"),
        (("scaling", (), ("knn",)), "augment"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(names: tuple[str, Any, Any], nearest: str):
    with pytest.raises(UserError, match=nearest):
        importlib.import_module("benchmarks.run").check_names(*names)


def test_the_ordinary_suite_leaves_them_out(pytestconfig: pytest.Config):
    assert pytestconfig.getini("testpaths") == ["tests"]
