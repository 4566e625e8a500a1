"""Ranks and accuracies by hand, results.json, and the table."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from rich.console import Console
from sklearn.metrics import top_k_accuracy_score

from sslfast.errors import DataError
from sslfast.evaluate.results import accuracy, merge_rows, ranks, read_rows, setting
from sslfast.evaluate.table import results_table


def row(protocol="knn", encoder="pretrained", fraction=1.0, samples=None, top1=50.0):
    return {
        "protocol": protocol,
        "encoder": encoder,
        "label_fraction": fraction,
        "samples_per_class": samples,
        "top1": top1,
        "top5": 90.0,
        "seconds": 1.0,
        "train_images": 100,
        "test_images": 50,
    }


def test_accuracy_is_that_of_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    scores, labels = torch.randn(200, 12, generator=generator), torch.arange(200) % 12
    result = accuracy(ranks(scores, labels), steps=3)
    for k, value in ((1, result.top1), (5, result.top5)):
        expected = 100 * top_k_accuracy_score(labels.numpy(), scores.numpy(), k=k, labels=np.arange(12))
        assert value == pytest.approx(expected)
    assert result.details == {"steps": 3}


def test_ties_follow_the_classes_and_what_is_no_number_is_wrong():
    nan = float("nan")
    scores = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [nan, 0.0, 0.0], [nan, 5.0, 0.0], [nan, nan, nan]])
    assert ranks(scores, torch.tensor([0, 1, 0, 1, 0])).tolist() == [0, 1, 3, 1, 3]


def test_five_classes_or_fewer_make_top5_certain():
    scores = torch.randn(50, 5, generator=torch.Generator().manual_seed(0))
    assert accuracy(ranks(scores, torch.arange(50) % 5)).top5 == 100


def test_rows_of_the_same_identity_are_replaced_in_place(tmp_path):
    path = tmp_path / "results.json"
    merge_rows(path, [row(), row("linear"), row(fraction=0.1), row(fraction=None, samples=4), row(encoder="random")])
    merged = merge_rows(path, [row(fraction=0.1, top1=77.0), row("finetune")])
    assert merged == read_rows(path) == json.loads(path.read_text())
    assert [(r["protocol"], r["encoder"], r["label_fraction"], r["samples_per_class"], r["top1"]) for r in merged] == [
        ("knn", "pretrained", 1.0, None, 50.0),
        ("linear", "pretrained", 1.0, None, 50.0),
        ("knn", "pretrained", 0.1, None, 77.0),
        ("knn", "pretrained", None, 4, 50.0),
        ("knn", "random", 1.0, None, 50.0),
        ("finetune", "pretrained", 1.0, None, 50.0),
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


def test_rows_that_are_added_at_the_same_time_are_all_kept(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: merge_rows(tmp_path / "results.json", [row(f"own{number}")]), range(40)))
    assert {r["protocol"] for r in read_rows(tmp_path / "results.json")} == {f"own{number}" for number in range(40)}


def test_rows_of_other_settings_stand_beside_each_other(tmp_path):
    path = tmp_path / "results.json"
    first = [row(), {**row(), "setting": {"data": "cifar10"}}, {**row(), "setting": {"neighbours": 5, "data": "x"}}]
    first += [{**row(), "seed": 3}]
    assert merge_rows(path, first) == first
    again = {**row(top1=1.0), "setting": {"data": "x", "neighbours": 5}, "seed": 0}
    assert merge_rows(path, [again]) == [*first[:2], again, first[3]]
    assert [setting(r) for r in read_rows(path)] == ["", "data cifar10", "data x, neighbours 5", "seed 3"]


@pytest.mark.parametrize("text", ["", "{}", "[1, 2]", '[{"protocol": '])
def test_a_damaged_file_is_named_and_kept(tmp_path, text):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"results\.json.*remove the file"):
        merge_rows(path, [row()])
    assert path.read_text() == text


def test_the_table_shows_labels_and_percent():
    text = io.StringIO()
    rows = [row(fraction=0.01, top1=12.36), row(encoder="random", fraction=None, samples=8)]
    Console(file=text, width=120).print(results_table(rows))
    lines = text.getvalue().splitlines()
    assert any("pretrained" in line and "1 %" in line and "12.4" in line for line in lines)
    assert any("random" in line and "8 per class" in line and "90.0" in line for line in lines)


def printed(rows):
    text = io.StringIO()
    Console(file=text, width=120).print(results_table(rows))
    return text.getvalue()


def test_the_table_shows_what_was_measured_with_where_there_is_something_to_show():
    other = {**row(), "setting": {"data": "my[b]:Set", "limit_test": 9}}
    assert "setting" not in printed([row()]) and printed([row()]).splitlines()[-1].startswith("└")
    assert printed([other, other]).splitlines()[-1].strip() == "data my[b]:Set, limit-test 9"
    assert "setting" not in printed([other, other])
    mixed = printed([row(), other])
    assert "setting" in mixed and "data my[b]:Set, limit-test 9" in mixed
