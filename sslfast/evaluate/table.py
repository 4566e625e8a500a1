"""The rows of an evaluation as a table on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sslfast.evaluate.results import labels_used, setting


def results_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows of `evaluate` in the order given: the pretrained encoder beside its baseline.

    What they were measured with is a column where rows differ in it, and a line beneath where they do not.
    """
    settings = [setting(row) for row in rows]
    differ = len(set(settings)) > 1
    table = Table(caption=None if differ else escape("".join(settings[:1])) or None, caption_justify="left")
    for heading in ("protocol", "labels", "encoder"):
        table.add_column(heading)
    for heading in ("top-1 %", "top-5 %", "seconds"):
        table.add_column(heading, justify="right")
    if differ:
        table.add_column("setting")
    for row, measured_with in zip(rows, settings, strict=True):
        table.add_row(
            row["protocol"],
            labels_used(row["label_fraction"], row["samples_per_class"]),
            row["encoder"],
            f"{row['top1']:.1f}",
            f"{row['top5']:.1f}",
            f"{row['seconds']:.1f}",
            *([escape(measured_with)] if differ else []),
        )
    return table


def print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints `results_table`."""
    Console().print(results_table(rows))
