"""The tables of a reproduction: as a page and on the terminal, published beside measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from rich.console import Console
from rich.table import Table as TerminalTable

from sslfast import info
from sslfast.report import plots
from sslfast.report.page import write_page
from sslfast.reproduce.recipe import Recipe, Table
from sslfast.reproduce.setting import Setting

PAGE = "tables.html"

Values = Sequence[Sequence[Sequence[float | None]]]  # by table, row and column, in percent


def write_tables(recipe: Recipe, values: Values, setting: Setting, out: Path) -> Path:
    """Writes `tables.html`: every cell with the measured number and the published one.

    Args:
        recipe: what was published.
        values: what was measured; None is shown as a dash.
        setting: how.
        out: folder of the page.

    Raises:
        TrainingError: the page cannot be written.
    """
    content = {
        "recipe": recipe,
        "setting": setting,
        "tables": [_content(table, measured) for table, measured in zip(recipe.tables, values, strict=True)],
        "machine": list(info.info().items()),
    }
    return write_page(out / PAGE, "sslfast.reproduce", "tables.html.jinja", content)


def print_tables(recipe: Recipe, values: Values, setting: Setting) -> None:
    """Prints every table: measured, and published in brackets."""
    console = Console()
    for kind, texts in setting.deviations.items():
        console.print(f"{kind}: {', '.join(texts)}.", markup=False)
    for table, measured in zip(recipe.tables, values, strict=True):
        view = TerminalTable(title=f"{table.title}, % (published)", title_justify="left")
        view.add_column("")
        for column in table.columns:
            view.add_column(column.title, justify="right")
        for row, cells, numbers in zip(table.rows, table.cells(), measured, strict=True):
            texts = [
                (_text(number, 1) or "–") + (f" ({cell.published:g})" if cell.published is not None else "")
                for cell, number in zip(cells, numbers, strict=True)
            ]
            view.add_row(row.title, *texts)
        console.print(view)


def _text(number: float | None, digits: int) -> str:
    return "" if number is None else f"{number:.{digits}f}"


def _content(table: Table, measured: Sequence[Sequence[float | None]]) -> dict[str, Any]:
    rows = []
    for row, cells, numbers in zip(table.rows, table.cells(), measured, strict=True):
        pairs = [
            {"measured": _text(number, 1), "published": None if cell.published is None else f"{cell.published:g}"}
            for cell, number in zip(cells, numbers, strict=True)
        ]
        rows.append({"title": row.title, "cells": pairs})
    return {
        "title": table.title,
        "note": table.note,
        "columns": [column.title for column in table.columns],
        "rows": rows,
        "plot": _plot(table, measured),
        "legend": [(row.title, position % plots.SERIES) for position, row in enumerate(table.rows)],
    }


def _plot(table: Table, measured: Sequence[Sequence[float | None]]) -> Markup | None:
    """Accuracy over the number of labels, measured (solid) and published (dashed), where columns are such numbers."""
    for name, scale, label in (("label_fraction", 100.0, "labels used, %"), ("samples_per_class", 1.0, "per class")):
        amounts = [getattr(column, name) for column in table.columns]
        if len(amounts) < 3 or None in amounts:
            continue
        x = np.array([scale * amount for amount in amounts])
        series = []
        for position, (cells, numbers) in enumerate(zip(table.cells(), measured, strict=True)):
            colour = position % plots.SERIES
            published = np.array([np.nan if cell.published is None else cell.published for cell in cells])
            ours = np.array([np.nan if number is None else number for number in numbers])
            series.append(plots.Series(x, published, colour, dash="--"))
            series.append(plots.Series(x, ours, colour, marker="o"))
        return plots.lines(
            series, x_label=label, y_label="%", log_x=True, alt=f"{table.title}: measured solid, published dashed"
        )
    return None
