"""The quickstart as the README starts it."""

import json
from pathlib import Path

import pytest

from sslfast.cli import main
from sslfast.errors import UserError
from sslfast.quickstart import quickstart


@pytest.mark.slow
def test_quickstart_learns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ends with a table, results.json and a report; the nearest neighbours are far better than a random encoder's."""
    out = tmp_path / "run"
    assert main(["quickstart", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "knn" in text
    assert "linear" in text
    assert text.splitlines()[-1] == str(out / "report.html")
    assert (out / "report.html").is_file()
    top1 = {(row["protocol"], row["encoder"]): row["top1"] for row in json.loads((out / "results.json").read_text())}
    assert top1["knn", "pretrained"] >= top1["knn", "random"] + 10
    assert top1["linear", "pretrained"] > top1["linear", "random"]


def test_quickstart_can_be_run_again(tmp_path: Path) -> None:
    for _ in range(2):
        report = quickstart(tmp_path / "run", images=300, epochs=1)
        assert report.is_file()


def test_quickstart_refuses_nonsense(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="epochs"):
        quickstart(tmp_path / "run", epochs=0)
