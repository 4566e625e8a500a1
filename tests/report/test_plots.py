"""Plots: what is drawn, and that the page decides the colours."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from sslfast.report import plots


def parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg.replace("xlink:href", "href"))


def test_every_colour_is_a_variable_of_the_page():
    x = np.arange(1.0, 4.0)
    series = [plots.Series(x, x * k, colour=k, marker="o") for k in range(plots.SERIES)]
    svg = plots.lines([*series, plots.Series(x, x, None)], x_label="x", y_label="y", log_x=False, alt="lines")
    assert not re.search(r":\s*#[0-9a-f]{3,6}", svg)
    used = set(re.findall(r"var\((--[\w-]+)\)", svg))
    assert used >= {f"--series-{k}" for k in range(plots.SERIES)} | {"--muted", "--line", "--other"}


def test_description_is_escaped():
    svg = plots.curve(np.arange(2.0), np.arange(2.0), x_label="epoch", alt='"<b>&')
    assert parse(svg).attrib["aria-label"] == '"<b>&'


def test_long_curve_keeps_its_range_in_few_points():
    x = np.arange(100_000.0)
    y = np.sin(x / 15_000)
    y[50_000] = 9.0
    svg = plots.curve(x, y, x_label="step", alt="long")
    assert len(svg) < 60_000
    assert {"0", "8"} <= set(re.findall(r">([\d.]+)</text>", svg)), "the outlier belongs to the axis' range"


@pytest.mark.parametrize("count", [0, 1, 2])
def test_short_curve(count):
    svg = plots.curve(np.arange(float(count)), np.ones(count), x_label="epoch", alt="short")
    assert parse(svg).attrib["role"] == "img"


def test_points_that_are_not_finite_are_left_out():
    y = np.array([1.0, np.nan, np.inf, 2.0])
    svg = plots.curve(np.arange(4.0), y, x_label="epoch", alt="gaps")
    assert not re.search("nan|inf", svg)


def test_label_axis_marks_the_measured_amounts_that_fit():
    x = np.array([1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0])
    svg = plots.lines([plots.Series(x, x)], x_label="labels", y_label="top-1", log_x=True, alt="labels")
    below = svg[: svg.index(">labels<")]
    assert re.findall(r">([\d.]+)</text>", below) == ["1", "5", "10", "25", "50", "100"]


def test_scatter_draws_every_point_in_its_group_s_colour():
    generator = np.random.default_rng(0)
    groups = np.array([0] * 5 + [1] * 7 + [-1] * 3)
    svg = plots.scatter(generator.normal(size=(15, 2)), groups, alt="points")
    drawn = re.findall(r"<use [^>]*fill: var\((--[\w-]+)\)", svg)
    assert {name: drawn.count(name) for name in drawn} == {"--series-0": 5, "--series-1": 7, "--other": 3}


def test_groups_differ_in_colour_or_marker():
    looks = {(plots.series_colour(group), plots.marker(group)) for group in range(plots.MAX_GROUPS)}
    assert len(looks) == plots.MAX_GROUPS == 30


def test_same_data_give_the_same_plot():
    first, second = (plots.curve(np.arange(9.0), np.arange(9.0), x_label="epoch", alt="same") for _ in range(2))
    assert first == second
