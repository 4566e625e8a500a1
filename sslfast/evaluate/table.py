"""The rows of an evaluation as a table on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def results_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows of `evaluate` in the order given: the pretrained encoder beside its baseline."""
    table = Table()
    for heading in ("protocol", "labels", "encoder"):
        table.add_column(heading)
    for heading in ("top-1 %", "top-5 %", "seconds"):
        table.add_column(heading, justify="right")
    for row in rows:
        fraction = row["label_fraction"]
        table.add_row(
            row["protocol"],
            f"{row['samples_per_class']} per class" if fraction is None else f"{100 * fraction:g} %",
            row["encoder"],
            f"{row['top1']:.1f}",
            f"{row['top5']:.1f}",
            f"{row['seconds']:.1f}",
        )
    return table


def print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints `results_table`."""
    Console().print(results_table(rows))
