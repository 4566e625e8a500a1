"""metrics.csv as curves."""

from __future__ import annotations

import numpy as np
import pytest

from sslfast.report import metrics


@pytest.fixture
def read(tmp_path):
    def write_and_read(text):
        (tmp_path / "metrics.csv").write_text(text)
        return metrics.read_metrics(tmp_path / "metrics.csv")

    return write_and_read


def test_empty_and_cut_off_cells_are_nan(read):
    columns = read("epoch,loss,accuracy\n1,2.5,\n2,1.5,40\n3,1")
    np.testing.assert_array_equal(columns["epoch"], [1, 2, 3])
    np.testing.assert_array_equal(columns["loss"], [2.5, 1.5, 1])
    np.testing.assert_array_equal(columns["accuracy"], [np.nan, 40, np.nan])


def test_curves_in_reading_order_without_positions_and_empty_columns(read):
    columns = read(
        "epoch,step,accuracy,images_per_second,loss,empty,views_share\n1,9,30,1234.5,2,,0.25\n2,18,40,2,1,,0.5"
    )
    curves = metrics.curves(columns)
    assert [curve.title for curve in curves] == ["Loss", "Images per second", "Accuracy"]
    assert [curve.last for curve in curves] == ["1", "2", "40"]
    assert "epoch" in curves[0].svg
    assert metrics.time_shares(columns) == {"views": 37.5}


def test_diverged_loss_is_still_drawn(read):
    (curve,) = metrics.curves(read("epoch,loss\n1,2\n2,nan\n3,inf\n"))
    assert curve.last == "2"


@pytest.mark.parametrize("text", ["", "epoch,loss\n"])
def test_nothing_logged(read, text):
    assert metrics.curves(read(text)) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (2.34567, "2.346"), (41234.4, "41,234"), (9.25e-9, "9.25e-09"), (-0.06, "-0.06"), (3.2e7, "3.2e+07")],
)
def test_number(value, text):
    assert metrics.number(value) == text
