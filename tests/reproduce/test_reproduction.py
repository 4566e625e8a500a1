"""reproduce: what it runs, what it keeps, and the page it leaves."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from sslfast.cli import main
from sslfast.errors import DataError, UserError
from sslfast.reproduce import data, reproduce, reproduction
from sslfast.train.stop import Interrupted

RECIPE = {
    "title": "Two of a <kind>",
    "source": "nobody",
    "pretrain": {
        "data": "shapes",
        "method": "autoencoder",
        "backbone": "resnet10_narrow",
        "image_size": 16,
        "epochs": 50,
        "batch_size": 16,
        "schedule": "constant",
    },
    "scaled_down": {"limit": 96, "limit_test": 48, "epochs": 1, "evaluation_epochs": 1, "batch_size": 8},
    "runs": {"plain": {}, "noisy": {"method": "denoising_autoencoder"}},
    "evaluations": {
        "neighbours": {"protocol": "knn"},
        "tuned": {"protocol": "finetune", "options": {"epochs": 9}, "baseline_backbone": "resnet10_narrow"},
        "untrained": {"protocol": "sslfast.reproduce.untrained:evaluate_untrained"},
    },
    "tables": [
        {
            "title": "First",
            "columns": [{"title": "top-1"}, {"title": "top-5", "metric": "top5"}],
            "rows": [
                {"title": "plain", "run": "plain", "evaluation": "neighbours", "published": [31.25, 77.0]},
                {"title": "noisy", "run": "noisy", "evaluation": "neighbours", "published": [32.5, None]},
                {"title": "random", "run": "noisy", "evaluation": "neighbours", "encoder": "random"},
                {"title": "nothing", "run": "noisy", "evaluation": "untrained"},
            ],
        },
        {
            "title": "Second",
            "columns": [{"title": str(count), "samples_per_class": count} for count in (1, 2, 4)],
            "rows": [
                {"title": "tuned", "run": "plain", "evaluation": "tuned", "published": [11, 12, 13]},
                {"title": "scratch", "run": "plain", "evaluation": "tuned", "encoder": "scratch"},
            ],
        },
    ],
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "kinds.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    return path


@pytest.fixture(scope="module")
def done(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    assert reproduce(str(recipe), out=out, scaled_down=True) == out / "tables.html"
    return out


def test_every_cell_is_the_row_that_its_evaluation_measured(done: Path):
    results = json.loads((done / "results.json").read_text())
    assert sorted(results) == ["noisy/neighbours", "noisy/untrained", "plain/neighbours", "plain/tuned"]
    tuned = results["plain/tuned"]
    assert tuned["settings"]["options"] == {"epochs": 1}
    assert [(row["encoder"], row["samples_per_class"]) for row in tuned["rows"]] == [
        (encoder, count) for count in (1, 2, 4) for encoder in ("pretrained", "scratch")
    ]
    assert {row["encoder"] for row in results["plain/neighbours"]["rows"]} == {"pretrained"}
    assert {row["test_images"] for result in results.values() for row in result["rows"]} == {48}
    page = (done / "tables.html").read_text()
    for result in results.values():
        for row in result["rows"]:
            assert f"{row['top1']:.1f}" in page
    assert f"{results['noisy/neighbours']['rows'][0]['top5']:.1f}" in page


def test_the_page_shows_published_numbers_and_says_that_it_is_scaled_down(done: Path):
    page = (done / "tables.html").read_text()
    assert "Two of a &lt;kind&gt;" in page
    for number in ("31.25", "77", "32.5", "11", "12", "13"):
        assert f"<small>{number}</small>" in page
    assert "Scaled down" in page
    assert "the first 96 training images, the first 48 test images, epochs of pretraining: 1" in page
    assert "epochs of evaluation: 1, batch size 8" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert page.count("<svg") == 1  # the second table's columns are numbers of labels


def test_what_is_done_is_kept_and_other_sizes_are_refused(recipe: Path, done: Path, monkeypatch, capsys):
    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("is computed again")

    monkeypatch.setattr(reproduction, "pretrain", never)
    monkeypatch.setattr(reproduction, "evaluate", never)
    assert main(["reproduce", str(recipe), "--out", str(done), "--scaled-down"]) == 0
    printed = capsys.readouterr().out
    assert "Scaled down" in printed
    assert "(31.25)" in printed
    assert main(["reproduce", str(recipe), "--out", str(done), "--scaled-down", "--epochs", "2"]) == 2
    assert "epochs" in capsys.readouterr().err


def test_only_what_is_missing_is_measured_again(recipe: Path, done: Path, monkeypatch):
    results = json.loads((done / "results.json").read_text())
    lost = results["plain/tuned"]["rows"].pop()
    (done / "results.json").write_text(json.dumps(results))
    asked = []

    def measure(run: Path, **options: object) -> list[dict[str, object]]:
        asked.append((run.name, options["protocols"], options["samples_per_class"], options["baselines"]))
        return [lost]

    monkeypatch.setattr(reproduction, "evaluate", measure)
    reproduce(str(recipe), out=done, scaled_down=True)
    assert asked == [("plain", ("finetune",), [4], True)]


def test_what_ends_early_leaves_every_number_of_labels_that_it_measured(recipe: Path, done: Path, monkeypatch):
    """And the next run goes on with the one that it was stopped in."""
    whole = json.loads((done / "results.json").read_text())
    part = {**whole, "plain/tuned": {**whole["plain/tuned"], "rows": []}}
    (done / "results.json").write_text(json.dumps(part))
    asked: list[int] = []

    def measure(run: Path, **options: Any) -> list[dict[str, object]]:
        (count,) = options["samples_per_class"]
        if count in asked:
            raise KeyboardInterrupt
        asked.extend([count] if count != 2 else [2, 4])
        return [row for row in whole["plain/tuned"]["rows"] if row["samples_per_class"] == count]

    monkeypatch.setattr(reproduction, "evaluate", measure)
    with pytest.raises(KeyboardInterrupt):
        reproduce(str(recipe), out=done, scaled_down=True)
    rows = json.loads((done / "results.json").read_text())["plain/tuned"]["rows"]
    assert {row["samples_per_class"] for row in rows} == {1, 2}
    asked.clear()
    reproduce(str(recipe), out=done, scaled_down=True)
    assert asked == [4]
    assert json.loads((done / "results.json").read_text()) == whole


def test_rows_of_a_removed_run_are_measured_again(recipe: Path, done: Path, monkeypatch):
    (done / "noisy" / "backbone.safetensors").unlink()
    rows = {
        name: json.loads((done / "results.json").read_text())[f"noisy/{name}"]["rows"]
        for name in ("neighbours", "untrained")
    }
    asked = []

    def measure(run: Path, protocols: tuple[str, ...], **options: object) -> list[dict[str, object]]:
        asked.append(run.name)
        return rows["neighbours" if protocols == ("knn",) else "untrained"]

    monkeypatch.setattr(reproduction, "pretrain", lambda config, resume: None)
    monkeypatch.setattr(reproduction, "evaluate", measure)
    reproduce(str(recipe), out=done, scaled_down=True)
    assert asked == ["noisy", "noisy"]


def test_the_page_names_data_seed_and_the_command(done: Path, recipe: Path):
    page = (done / "tables.html").read_text()
    assert "shapes; 96 of 10,000 training images, 48 of 2,000 test images, 10 classes" in page
    assert '<tr><th scope="row">seed</th><td>0</td></tr>' in page
    assert f"sslfast reproduce {recipe} --out {done} --scaled-down" in page
    assert "Other data" not in page


def test_other_data_is_named(recipe: Path, tmp_path: Path, monkeypatch, capsys):
    for name in ("pretrain", "evaluate"):
        monkeypatch.setattr(reproduction, name, lambda *arguments, **options: [])
    page = reproduce(str(recipe), data="shapes", data_options={"size": 16}, limit=9000, epochs=60, out=tmp_path)
    for text in (page.read_text(), capsys.readouterr().out):
        assert "Other data than published:" in text and " shapes with size 16." in text
        assert "Scaled down:" in text and " the first 9,000 training images." in text
        assert "Other sizes than published:" in text and " epochs of pretraining: 60." in text


@pytest.mark.parametrize(
    ("changes", "sizes", "message"),
    [
        ({"samples_per_class": 4}, {"limit": 39}, "4 labels of every class; give --limit 40 or more"),
        ({"samples_per_class": 4}, {"limit": 5}, "give --limit 40 or more"),
        ({"samples_per_class": 1}, {"limit": 5}, "batches of 16 and 1 labels of every class; give --limit 16 or more"),
        ({"samples_per_class": 300}, {"data_options": {"count": 2990}}, "300 labels of every class.*fewer of some"),
        ({}, {"limit": 5}, "batches of 16; give --limit 16 or more"),
        ({}, {"data_options": {"count": 12}}, "shapes with count 12 has 12 images, and a batch 16; use more images"),
        ({}, {"limit_test": 1}, "test images are all of class 0"),
    ],
)
def test_too_few_images_are_found_before_the_first_run(changes, sizes, message, tmp_path: Path, monkeypatch):
    """Every such limit would otherwise end the evaluation, behind all the pretraining."""

    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("is trained")

    monkeypatch.setattr(reproduction, "pretrain", never)
    rows = [{"title": "r", "run": "plain", "evaluation": "neighbours"}]
    table = {"title": "T", "columns": [{"title": "c", **changes}], "rows": rows}
    path = tmp_path / "few.yaml"
    path.write_text(yaml.safe_dump(RECIPE | {"tables": [table], "scaled_down": {}}))
    with pytest.raises(UserError, match=message):
        reproduce(str(path), out=tmp_path / "out", **sizes)
    assert not (tmp_path / "out").exists()


def test_the_smallest_limit_that_suffices():
    """Also where the classes do not take turns, and some labels are unknown."""
    label = torch.tensor([0, 0, 1, 0, -1, 1, 0, 2, 0, 2, 1, 2, 2, 1])
    needed = [max(int((label == c).nonzero()[n - 1]) + 1 for c in range(3)) for n in (1, 2, 3)]
    assert [data._sufficient(label, n) for n in (1, 2, 3)] == needed == [8, 10, 12]
    assert data._sufficient(label, 5) is None
    assert data._sufficient(label[:11], 3) is None


def test_bad_input(recipe: Path, tmp_path: Path):
    with pytest.raises(UserError, match="limit is 0"):
        reproduce(str(recipe), out=tmp_path, limit=0)
    (tmp_path / "results.json").write_text("[1]")
    with pytest.raises(DataError, match="remove the file"):
        reproduce(str(recipe), out=tmp_path, scaled_down=True)


def test_a_signal_tells_how_the_reproduction_goes_on(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hint of `pretrain` alone would leave its reader with one finished run and no table."""

    def stop(*_: Any, **__: Any) -> Path:
        raise Interrupted("stopped; continue with: sslfast pretrain", signal.SIGINT)

    monkeypatch.setattr(reproduction, "pretrain", stop)
    with pytest.raises(Interrupted, match="pretrain, or start the reproduction again") as caught:
        reproduce(str(recipe), out=tmp_path / "out", scaled_down=True)
    assert caught.value.exit_code == 130
