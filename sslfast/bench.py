"""`sslfast bench`: runs the benchmarks of a checkout beside other libraries."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import sslfast
from sslfast.errors import UserError


def bench(
    suite: str,
    against: Sequence[str] = (),
    only: Sequence[str] = (),
    images: Path | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    threads: int = 0,
    seconds: float = 10.0,
    out: Path | None = None,
) -> Path:
    """Measures a suite beside other libraries on the same inputs, prints the table, writes it as JSON and as a page.

    Args:
        suite: which measurements; `ops` measures the compiled operations, `data` the way from JPEG files to views,
            `train` whole pretraining steps by method and where their time goes, `scaling` how the cost grows with the
            work.
        against: libraries to compare with; all that are installed when empty.
        only: operations to measure, in `train` methods (or `drop_in`); all of the suite when empty.
        images: folder of pictures to measure with; the embedded shapes when absent.
        device: auto, cpu or cuda.
        threads: threads that every library may use; all cores when 0.
        seconds: time spent on each case and library, at least five calls of each.
        out: JSON file; `benchmarks/results/SUITE--MACHINE.json` when absent.

    Returns:
        The JSON file; the page lies beside it, with the ending `.html`.

    Raises:
        UserError: unknown suite, library or operation, or no checkout to take the benchmarks from.
    """
    root = find_checkout()
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    runner = importlib.import_module("benchmarks.run")
    result: Path = runner.run_suite(
        suite,
        against=against,
        only=only,
        images=images,
        device=device,
        threads=threads,
        seconds=seconds,
        out=out,
    )
    return result


def find_checkout() -> Path:
    """The checkout of sslfast that holds the benchmarks: the working directory's, or the one this package is run from.

    Raises:
        UserError: there is none, because sslfast is installed from a wheel.
    """
    for root in (Path.cwd(), *Path.cwd().parents, Path(sslfast.__file__).resolve().parent.parent):
        if (root / "benchmarks" / "run.py").is_file() and (root / "sslfast" / "registry.py").is_file():
            return root
    raise UserError(
        "the benchmarks are not part of the installed package; run `sslfast bench` inside a checkout of sslfast, "
        "with its peers installed by `pip install '.[compare]'`"
    )
