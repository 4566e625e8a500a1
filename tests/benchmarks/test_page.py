"""The page of a result file: every number of the file is on it, and it needs nothing else."""

from __future__ import annotations

import html
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from sslfast.errors import UserError

MEASURED_ON = {"date": "2026-01-01", "torch": "2.11", "threads": 2}
RESULTS = Path(__file__).parent.parent.parent / "benchmarks" / "results"


def row(contender: str, seconds: float, **settings: Any) -> dict[str, Any]:
    return {
        "op": "nt_xent",
        "case": f"case {settings}",
        "settings": settings,
        "axis": "batch" if settings else "",
        "contender": contender,
        "unit": "losses",
        "version": "1.2",
        "peak_extra_bytes": 3 << 20,
        "floor_seconds": seconds / 4,
        "least_bytes": 1e6,
        "least_flops": 1e9,
        "calls": 5,
        "seconds": seconds,
        "seconds_q1": 0.9 * seconds,
        "seconds_q3": 1.1 * seconds,
        "per_second": 1 / seconds,
    } | MEASURED_ON


def missing_row(contender: str, reason: str) -> dict[str, Any]:
    known = ("op", "case", "settings", "axis", "unit", "least_bytes", "least_flops", *MEASURED_ON)
    return {name: value for name, value in row(contender, 1.0).items() if name in known} | {
        "contender": contender,
        "skipped": reason,
    }


def result(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "suite": "scaling",
        "date": "2026-01-01",
        "machine": {"name": "m", "cpu": "<cpu>", "cores": 2, "gpu": None, "threads": 2, "memory_bytes": 1 << 30},
        "floor": {"copy_bytes_per_second": 1e10, "matrix_flops_per_second": 1e12},
        "torch": "2.11",
        "sslfast": "0.1",
        "rows": rows,
    }


def draw(tmp_path: Path, rows: list[dict[str, Any]]) -> str:
    file = tmp_path / "scaling--m.json"
    file.write_text(json.dumps(result(rows)))
    page = importlib.import_module("benchmarks.page").draw(file)
    assert page == tmp_path / "scaling--m.html"
    return page.read_text()


def test_bars_show_every_contender_and_how_much_slower_it_is(tmp_path: Path):
    parts = {"waiting for data": 0.003, "forward": 0.001}
    missing = missing_row("kornia", "no kornia")
    text = draw(tmp_path, [row("sslfast", 0.01), row("lightly", 0.04) | {"parts": parts}, missing])
    assert "sslfast (1.2)" in text and "lightly (1.2)" in text
    assert "4.0 ×" in text
    assert "width: 100.00%" in text and "width: 25.00%" in text
    assert "waiting for data 75 %, forward 25 %" in text
    for colour, width in ((0, "75.00"), (1, "25.00")):
        assert f'<span style="width: {width}%; background: var(--series-{colour})"></span>' in text
    assert "</svg>waiting for data</li>" in text
    assert "Not installed where this was measured: kornia" in text
    assert "&lt;cpu&gt;" in text
    assert "http" not in text.replace("http://www.w3.org", "")


def test_long_times_are_written_out(tmp_path: Path):
    assert "1,640 (1,476–1,804)" in draw(tmp_path, [row("lightly", 1.64)])


def test_a_contender_that_handles_fewer_is_compared_by_its_rate(tmp_path: Path):
    few = row("torchvision, image by image", 0.01) | {"count": 0.1, "per_second": 10}
    text = draw(tmp_path, [row("sslfast", 0.01), few])
    assert "10.0 ×" in text and "width: 10.00%" in text


def test_settings_of_a_library_share_its_colour_and_differ_in_their_dashes():
    names = ["sslfast", "torchvision", "kornia", "torchvision, 2 workers", "torchvision, image by image"]
    styles = importlib.import_module("benchmarks.page")._styles(names)
    assert [styles[name][0] for name in names] == [0, 1, 2, 1, 1]
    assert len(set(styles.values())) == 5


def test_the_overview_names_the_fastest_of_the_others(tmp_path: Path):
    others = [row("lightly", 0.04), row("lightly, 2 workers", 0.02), row("sslfast, views alone", 0.001)]
    lost = [row("sslfast", 0.04, batch=2), row("kornia", 0.02, batch=2)]
    alone = [row("sslfast", 0.01, batch=3)]
    text = draw(tmp_path, [row("sslfast", 0.01), *others, *lost, *alone])
    overview = text[text.index("<h2>Overview</h2>") :].partition("</table>")[0]
    assert "<td>100 losses/s</td><td>lightly, 2 workers</td><td>2.0 ×</td>" in overview
    assert "<td>25 losses/s</td><td>kornia</td><td>0.5 ×</td>" in overview
    assert overview.count("<tr>") == 3
    assert "Overview" not in draw(tmp_path, [row("sslfast", 0.01), *others])


def test_lines_over_what_grows_and_the_roofline(tmp_path: Path):
    rows = [
        row(name, scale * batch / 1e4, batch=batch)
        for batch in (32, 64, 128)
        for name, scale in (("sslfast", 1), ("lightly", 3))
    ]
    text = draw(tmp_path, rows)
    assert text.count("<svg") == 4  # two plots, and two strokes of the legend
    assert "nt_xent over batch" in text and "Roofline" in text
    assert "How the cost grows, and how far the machine is used" in text
    assert draw(tmp_path, [row("lightly", 0.1)]).count("<svg") == 0


@pytest.mark.parametrize("file", sorted(RESULTS.glob("*--*.json")), ids=lambda file: file.stem)
def test_committed_results_can_be_drawn(tmp_path: Path, file: Path):
    copy = tmp_path / file.name
    copy.write_text(file.read_text())
    text = html.unescape(importlib.import_module("benchmarks.page").draw(copy).read_text())
    for entry in json.loads(file.read_text())["rows"]:
        assert entry["contender"] in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": None}, "the file: 'rows' is None"),
        ({"rows": [{"op": "nt_xent"}]}, "row 0 lacks"),
        ({"rows": [row("sslfast", 0.01) | {"seconds": "fast"}]}, "row 0: 'seconds' is 'fast'"),
        ({"rows": [row("sslfast", 0.01) | {"second": 1.0}]}, "row 0 has an unknown field 'second'"),
        ({"floor": {"copy_bytes_per_second": 1e10}}, "floor lacks 'matrix_flops_per_second'"),
    ],
)
def test_what_is_no_result_is_refused(change: dict[str, Any], message: str, tmp_path: Path):
    schema = importlib.import_module("benchmarks.schema")
    file = tmp_path / "ops--m.json"
    file.write_text(json.dumps(result([row("sslfast", 0.01)]) | change))
    with pytest.raises(UserError, match=message):
        schema.read(file)
    with pytest.raises(ValueError, match=message):
        schema.write(tmp_path / "written.json", result([row("sslfast", 0.01)]) | change)
    assert not (tmp_path / "written.json").exists()


@pytest.mark.parametrize("content", ["", "[1]", "{"])
def test_damaged_file_is_refused(content: str, tmp_path: Path):
    file = tmp_path / "ops--m.json"
    file.write_text(content)
    with pytest.raises(UserError, match=str(file)):
        importlib.import_module("benchmarks.schema").read(file)


def test_results_of_the_repository_keep_to_the_schema():
    files = sorted(RESULTS.glob("*--*.json"))
    assert len(files) >= 4
    for file in files:
        importlib.import_module("benchmarks.schema").read(file)
