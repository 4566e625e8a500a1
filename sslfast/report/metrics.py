"""metrics.csv as curves."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from sslfast.errors import DataError
from sslfast.report import plots

TITLES = {"loss": "Loss", "learning_rate": "Learning rate", "images_per_second": "Images per second"}
POSITIONS = ("epoch", "step")  # what a row is for
SHARE = "_share"  # ending of the columns that say how a step's time divides


@dataclass(frozen=True)
class Curve:
    """One logged quantity.

    Attributes:
        title: what it is.
        svg: the curve.
        last: its last value, as text.
    """

    title: str
    svg: Markup
    last: str


def read_metrics(path: Path) -> dict[str, NDArray[np.float64]]:
    """Columns of a CSV file with a header line, as float64 with NaN where a cell is empty or cut off.

    Raises:
        DataError: the file cannot be read, or a cell is no number.
    """
    columns: dict[str, list[float]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            columns = {name: [] for name in reader.fieldnames or []}
            for row in reader:
                for name, column in columns.items():
                    column.append(float(row[name]) if row[name] else float("nan"))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}; remove the file and write the report again") from error
    return {name: np.array(column, dtype=np.float64) for name, column in columns.items()}


def curves(columns: dict[str, NDArray[np.float64]]) -> list[Curve]:
    """A curve over the epochs for each logged quantity: loss, learning rate and speed first."""
    quantities = [
        name
        for name, values in columns.items()
        if name not in POSITIONS and not name.endswith(SHARE) and np.isfinite(values).any()
    ]
    order = list(TITLES)
    quantities.sort(key=lambda name: order.index(name) if name in order else len(order))
    position = next((name for name in POSITIONS if name in columns), None)
    result = []
    for name in quantities:
        values = columns[name]
        x = columns[position] if position else np.arange(1.0, len(values) + 1)
        finite = values[np.isfinite(values)]
        title = TITLES.get(name, name.replace("_", " ").replace("/", " ").capitalize())
        alt = f"{title} over {position or 'row'}: from {finite[0]:.4g} to {finite[-1]:.4g}"
        result.append(Curve(title, plots.curve(x, values, x_label=position or "row", alt=alt), number(finite[-1])))
    return result


def time_shares(columns: dict[str, NDArray[np.float64]]) -> dict[str, float]:
    """Percent of the training time that each part of a step took, the mean over the rows."""
    return {
        name.removesuffix(SHARE): 100 * float(np.nanmean(values))
        for name, values in columns.items()
        if name.endswith(SHARE) and np.isfinite(values).any()
    }


def number(value: float) -> str:
    """A figure with four digits that count, without an exponent where it reads well."""
    if value != 0 and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
