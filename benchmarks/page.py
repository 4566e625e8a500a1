"""The page of a result file: bars with the peers, lines over what grows, and the roofline of the machine.

`python -m benchmarks.page FILE.json …` draws pages again from result files.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from benchmarks import schema
from benchmarks.schema import library_of
from sslfast.report import plots
from sslfast.report.page import write_page

Row = dict[str, Any]


def draw(results: Path) -> Path:
    """Writes FILE.html beside a result file FILE.json: one page without any other file.

    Args:
        results: as `benchmarks.run` wrote it.

    Returns:
        The page.
    """
    content = schema.read(results)
    measured = [row for row in content["rows"] if "seconds" in row]
    lines, legend = _lines(measured)
    parts = list(dict.fromkeys(name for row in measured for name in row.get("parts", {})))
    cases = _grouped(measured, "op", "case")
    page = {
        "result": content,
        "overview": list(filter(None, map(_summary, cases))),
        "cases": [_case(rows, parts) for rows in cases],
        "parts": [(name, colour % plots.SERIES) for colour, name in enumerate(parts)],
        "lines": lines,
        "legend": legend,
        "roofline": _roofline(measured, content["floor"]),
        "missing": sorted({row["contender"] for row in content["rows"] if "skipped" in row}),
        "failed": [row for row in content["rows"] if "failed" in row],
    }
    return write_page(results.with_suffix(".html"), "benchmarks", "page.html.jinja", page)


def _grouped(rows: Sequence[Row], *names: str) -> list[list[Row]]:
    """Rows that agree in the named entries, in the order of their first."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return list(groups.values())


def _summary(rows: Sequence[Row]) -> dict[str, str] | None:
    """A case on one line, beside the fastest of the others; none where either is missing."""
    ours = next((row["per_second"] for row in rows if row["contender"] == "sslfast"), None)
    others = [row for row in rows if library_of(row["contender"]) != "sslfast"]
    if ours is None or not others:
        return None
    best = max(others, key=lambda row: row["per_second"])
    return {
        "title": _title(rows[0]),
        "rate": f"{_rate(ours)} {rows[0]['unit']}/s",
        "peer": best["contender"],
        "factor": f"{ours / best['per_second']:.1f} ×",
    }


def _title(row: Row) -> str:
    return f"{row['op']}: {row['case']}"


def _case(rows: Sequence[Row], parts: Sequence[str]) -> dict[str, Any]:
    """A case's bars: each as long as its rate, the fastest full; below it the parts of its time, the slowest full.

    Args:
        rows: the contenders.
        parts: of all rows of the page, in the order of their colours.
    """
    fastest = max(row["per_second"] for row in rows)
    slowest = max(sum(row.get("parts", {}).values()) / row.get("count", 1) for row in rows) or 1.0
    ours = next((row["per_second"] for row in rows if row["contender"] == "sslfast"), None)
    bars = []
    for row in rows:
        peak, least = row["peak_extra_bytes"], row["floor_seconds"]
        taken = row.get("parts", {})
        whole = sum(taken.values()) or 1.0
        shares = {name: 100 * seconds / row.get("count", 1) / slowest for name, seconds in taken.items()}
        bars.append(
            {
                "name": f"{row['contender']} ({row['version']})",
                "own": row["contender"] == "sslfast",
                "width": 100 * row["per_second"] / fastest,
                "rate": _rate(row["per_second"]),
                "time": "{} ({}–{})".format(*(_ms(row[name]) for name in ("seconds", "seconds_q1", "seconds_q3"))),
                "factor": f"{ours / row['per_second']:.1f} ×" if ours and row["contender"] != "sslfast" else "",
                "memory": "" if peak is None else f"{peak / 2**20:,.1f}",
                "floor": f"{100 * least / row['seconds']:.1f} %" if least else "",
                "parts": ", ".join(f"{name} {100 * seconds / whole:.0f} %" for name, seconds in taken.items()),
                "segments": [(parts.index(name) % plots.SERIES, width) for name, width in shares.items()],
            }
        )
    return {"title": _title(rows[0]), "unit": rows[0]["unit"], "bars": bars}


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ms(seconds: float) -> str:
    return _rate(1e3 * seconds)


def _styles(names: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Colour and dashes of each contender: a library has one colour, each of its settings other dashes."""
    libraries: dict[str, list[str]] = {}
    for name in names:
        libraries.setdefault(library_of(name), []).append(name)
    dashes = list(plots.DASHES)
    return {
        name: (colour % plots.SERIES, dashes[setting % len(dashes)])
        for colour, settings in enumerate(libraries.values())
        for setting, name in enumerate(settings)
    }


def _lines(rows: Sequence[Row]) -> tuple[list[tuple[str, Markup]], list[tuple[str, int, str]]]:
    """Time for one unit over the setting that grows: a plot for each operation and setting; and the legend of all."""
    growing = [row for row in rows if row.get("axis")]
    styles = _styles(list(dict.fromkeys(row["contender"] for row in growing)))
    figures = []
    for group in _grouped(growing, "op", "axis"):
        axis = group[0]["axis"]
        series = []
        for line in _grouped(group, "contender"):
            points = sorted((row["settings"][axis], 1e3 / row["per_second"]) for row in line)
            x, y = np.array(points, dtype=np.float64).T
            colour, dash = styles[line[0]["contender"]]
            series.append(plots.Series(x, y, colour, marker="o", dash=dash))
        unit = group[0]["unit"].removesuffix("es" if group[0]["unit"].endswith("sses") else "s")
        title = f"{group[0]['op']} over {axis.replace('_', ' ')}"
        svg = plots.lines(
            series, x_label=axis.replace("_", " "), y_label=f"ms per {unit}", log_x=True, log_y=True, alt=title
        )
        figures.append((title, svg))
    return figures, [(name, colour, plots.DASHES[dash]) for name, (colour, dash) in styles.items()]


def _roofline(rows: Sequence[Row], floor: dict[str, float]) -> Markup | None:
    """Attained over possible: least operations a second against least operations a byte, under the machine's roof."""
    points = [
        (row["least_flops"] / row["least_bytes"], row["least_flops"] / row["seconds"] / 1e9)
        for row in rows
        if row["contender"] == "sslfast" and row.get("least_flops") and row.get("least_bytes")
    ]
    if not points:
        return None
    x, y = np.array(points, dtype=np.float64).T
    bandwidth, rate = floor["copy_bytes_per_second"] / 1e9, floor["matrix_flops_per_second"] / 1e9
    ridge = rate / bandwidth
    ends = np.array([min(x.min(), ridge) / 2, ridge, max(x.max(), ridge) * 2])
    roof = plots.Series(ends, np.minimum(rate, bandwidth * ends), None)
    return plots.lines(
        [roof, plots.Series(x, y, 0, marker="o", dash="")],
        x_label="least operations a byte",
        y_label="GFLOP/s",
        log_x=True,
        log_y=True,
        alt="roofline: the machine's measured roof, and sslfast's operations under it",
    )


if __name__ == "__main__":
    for file in sys.argv[1:]:
        print(draw(Path(file)))
