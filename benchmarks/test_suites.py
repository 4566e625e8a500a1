"""The suites of `sslfast bench` under pytest-benchmark: the same cases, contenders, warm-up and device synchronisation.

    pytest benchmarks --benchmark-only -k augment
    pytest benchmarks --benchmark-only --suite scaling --only nt_xent -k "sslfast or lightly" --benchmark-json FILE

A case is a group, so that its contenders stand beside each other. The extra information of a result holds what a row
of `sslfast bench` does: peak memory, seconds of the floor, units a second, version and settings.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks import machine, run
from sslfast.errors import UserError


class Cases:
    """The cases that the command line names, one in memory at a time; they are asked for in order."""

    def __init__(self, config: pytest.Config) -> None:
        self.suite: str = config.getoption("suite")
        self.only = [name for name in config.getoption("only").split(",") if name]
        run.check_names(self.suite, (), self.only)
        self.setup = run.set_up(*(config.getoption(name) for name in ("device", "threads", "images")))
        self.ahead: Iterator[tuple[int, run.Case]] = iter(())
        self.position = -1

    def __iter__(self) -> Iterator[run.Case]:
        return run.cases_of(self.suite, self.only, self.setup)

    def at(self, position: int) -> run.Case:
        if position < self.position or self.position < 0:
            self.ahead = enumerate(self)
        while self.position != position:
            self.position, self.case = next(self.ahead)
        return self.case


CASES = pytest.StashKey[Cases]()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    try:
        cases = metafunc.config.stash.setdefault(CASES, Cases(metafunc.config))
    except UserError as error:
        raise pytest.UsageError(str(error)) from None
    found = [
        pytest.param(position, contender, id=f"{case.op}: {case.name}: {contender}")
        for position, case in enumerate(cases)
        for contender in case.contenders
    ]
    metafunc.parametrize(("position", "contender"), found)


@pytest.fixture(scope="session")
def floor(pytestconfig: pytest.Config) -> dict[str, float]:
    return machine.measure_floor(pytestconfig.stash[CASES].setup.device)


def test_speed(position: int, contender: str, floor: dict[str, float], pytestconfig: pytest.Config, benchmark: Any):
    cases = pytestconfig.stash[CASES]
    case = cases.at(position)
    row, call = run.prepare(case, contender, cases.setup, floor)
    if "skipped" in row:
        pytest.skip(row["skipped"])
    assert call is not None, row["failed"]
    benchmark.group, benchmark.name = f"{case.op}: {case.name}", contender
    benchmark.extra_info |= row
    benchmark(machine.timed, call, cases.setup.device)
    if benchmark.stats is not None:  # --benchmark-disable
        benchmark.extra_info["per_second"] = row["count"] / benchmark.stats.stats.median
