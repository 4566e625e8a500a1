"""The rows of an evaluation as a table on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints rows of `evaluate`, the pretrained encoder beside its baseline."""
    table = Table()
    for heading in ("protocol", "labels", "encoder"):
        table.add_column(heading)
    for heading in ("top-1 %", "top-5 %"):
        table.add_column(heading, justify="right")
    for row in rows:
        fraction = row["label_fraction"]
        labels = f"{row['samples_per_class']} per class" if fraction is None else f"{100 * fraction:g} %"
        table.add_row(row["protocol"], labels, row["encoder"], f"{row['top1']:.1f}", f"{row['top5']:.1f}")
    Console().print(table)
