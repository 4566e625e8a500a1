"""Plots as inline SVG whose colours are the page's CSS variables, so that they follow light and dark mode."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

SERIES = 10  # colours of the page's palette: --series-0 to --series-9
MARKERS = ("o", "s", "^")
DASHES = {"-": "none", "--": "5 3", ":": "2 3", "-.": "7 3 2 3"}  # matplotlib's line styles -> those of a page's legend
MAX_GROUPS = SERIES * len(MARKERS)  # 10 and 3 have no common factor: so many groups differ in colour or marker
FEW_POINTS = 12  # so many points of a curve are marked
MAX_POINTS = 300  # a longer curve is drawn as the mean and the range of as many bins

# matplotlib writes hexadecimal colours only; these stand for the variables they are replaced by in the finished SVG.
_VARIABLES = {f"#0a0b{k:02x}": f"var(--series-{k})" for k in range(SERIES)} | {
    "#0a0cf0": "var(--muted)",
    "#0a0cf1": "var(--line)",
    "#0a0cf2": "var(--other)",
}
_MUTED, _LINE, OTHER = "#0a0cf0", "#0a0cf1", "#0a0cf2"
_STYLE: Any = {  # matplotlib types the names of its parameters one by one
    "svg.hashsalt": "sslfast",  # the same data gives the same page
    "svg.fonttype": "none",  # text stays text: it takes the page's font and can be searched
    "font.size": 9.0,
    "text.parse_math": False,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": False,
    "axes.formatter.limits": (-3, 5),
    "grid.color": _LINE,
    "grid.linewidth": 0.5,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": _MUTED,
    "ytick.labelcolor": _MUTED,
}


@dataclass(frozen=True)
class Series:
    """One line of a plot.

    Attributes:
        x, y: (n,) values; non-finite ones are left out.
        colour: 0 to 9, position in the page's palette, or None for the neutral colour.
        marker: one of "o", "s", "^" at every point, or none.
        dash: matplotlib line style.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    colour: int | None = 0
    marker: str = ""
    dash: str = "-"


def series_colour(number: int | None) -> str:
    """The colour to hand to matplotlib for `--series-<number>`, or for the neutral `--other`."""
    return OTHER if number is None else f"#0a0b{number % SERIES:02x}"


def curve(x: NDArray[np.float64], y: NDArray[np.float64], *, x_label: str, alt: str) -> Markup:
    """One quantity over the steps; a long curve is drawn as the mean of bins with their range behind it."""
    keep = np.isfinite(x) & np.isfinite(y)
    x, y = x[keep], y[keep]
    with matplotlib.rc_context(_STYLE):
        figure, axes = _panel(x_label)
        if len(x) > MAX_POINTS:
            bins = [np.array_split(values, MAX_POINTS) for values in (x, y)]
            x, y = (np.array([part.mean() for part in parts]) for parts in bins)
            low, high = ([edge(part) for part in bins[1]] for edge in (np.min, np.max))
            axes.fill_between(x, low, high, color=series_colour(0), alpha=0.18, linewidth=0)
        axes.plot(
            x, y, color=series_colour(0), linewidth=1.4, marker="o" if len(x) <= FEW_POINTS else "", markersize=3.5
        )
        axes.margins(x=0.02)
        return _svg(figure, alt)


def lines(
    series: Sequence[Series], *, x_label: str, y_label: str, log_x: bool, alt: str, log_y: bool = False
) -> Markup:
    """Several lines in one panel, for example accuracy over the number of labels."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _panel(x_label, y_label)
        for line in series:
            axes.plot(
                line.x,
                line.y,
                color=series_colour(line.colour),
                linestyle=line.dash,
                marker=line.marker,
                markersize=4.5,
                linewidth=1.6,
            )
        if log_x:
            axes.set_xscale("log")
            axes.set_xticks(_spaced(sorted({float(value) for line in series for value in line.x})))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
            axes.xaxis.set_minor_locator(NullLocator())
        if log_y:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_locator(NullLocator())
        return _svg(figure, alt)


def scatter(points: NDArray[np.float64], groups: NDArray[np.int64], *, alt: str) -> Markup:
    """Points in a plane, coloured by group.

    Args:
        points: (N, 2) coordinates.
        groups: (N,) number of each point's colour and marker, or -1 for the neutral colour.
        alt: description for people who do not see the picture.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(4.2, 3.8), layout="constrained")
        axes = figure.add_subplot()
        for group in np.unique(groups):
            members = points[groups == group]
            axes.plot(
                members[:, 0],
                members[:, 1],
                color=series_colour(None if group < 0 else int(group)),
                marker=marker(int(group)),
                markersize=3.4,
                markeredgewidth=0,
                linestyle="",
                alpha=0.8,
            )
        axes.grid(False)
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set_visible(True)
        return _svg(figure, alt)


def marker(group: int) -> str:
    """The marker of a group: with its colour it tells MAX_GROUPS groups apart."""
    return MARKERS[group % len(MARKERS)] if group >= 0 else "o"


def _tick(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _spaced(values: list[float]) -> list[float]:
    """The values, from the largest down, whose labels do not touch on a logarithmic axis."""
    gap = (0.03 + 0.016 * max(len(_tick(value)) for value in values)) * np.log(values[-1] / values[0])
    kept = values[-1:]
    for value in reversed(values[:-1]):
        if np.log(kept[0] / value) >= gap:
            kept.insert(0, value)
    return kept


def _panel(x_label: str, y_label: str = "") -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.2, 2.5), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    axes.tick_params(length=3)
    return figure, axes


def _svg(figure: Figure, alt: str) -> Markup:
    """The figure as an <svg> element that scales with the page and has its colours."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    view_box = re.search(r'viewBox="[^"]*"', text)
    assert view_box is not None, "matplotlib writes a viewBox"
    text = re.sub(r"<svg[^>]*>", f'<svg role="img" aria-label="{escape(alt)}" {view_box.group()}>', text, count=1)
    # Groups are numbered from 1 in every figure, so their names would repeat on the page; nothing refers to them.
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r'<style type="text/css">.*?</style>', "", text, flags=re.DOTALL)
    text = re.sub(r"#0a0[bc][0-9a-f]{2}", lambda match: _VARIABLES[match.group()], text)
    return Markup(text)
