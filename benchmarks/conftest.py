"""What `pytest benchmarks --benchmark-only` takes, as `sslfast bench` does: suite, operations, device, pictures."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from sslfast.bench import find_checkout

if (ROOT := str(find_checkout())) not in sys.path:
    sys.path.insert(0, ROOT)
run = importlib.import_module("benchmarks.run")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("sslfast bench")
    group.addoption("--suite", default="ops", choices=list(run.SUITES), help="which measurements")
    group.addoption("--only", default="", help="operations of the suite, comma-separated; all when absent")
    group.addoption("--device", default="auto", choices=["auto", "cpu", "cuda"], help="where the work is done")
    group.addoption("--threads", type=int, default=0, help="threads that every library may use; all cores when 0")
    group.addoption("--images", type=Path, help="folder of pictures to measure with; the embedded shapes when absent")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", "default")  # the other libraries' warnings are no failures of theirs
