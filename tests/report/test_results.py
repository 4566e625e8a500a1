"""results.json as table, headline and curves."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sslfast.report import plots, results


def row(protocol="knn", encoder="pretrained", fraction=1.0, samples=None, top1=50.0, **more):
    return {
        "protocol": protocol,
        "encoder": encoder,
        "label_fraction": fraction,
        "samples_per_class": samples,
        "top1": top1,
        "top5": 90.0,
        **more,
    }


@pytest.fixture
def read(tmp_path):
    def write_and_read(*rows):
        (tmp_path / "results.json").write_text(json.dumps(rows))
        return results.read_results(tmp_path / "results.json")

    return write_and_read


def test_lines_go_from_few_labels_to_many(read):
    (group,) = read(
        row(fraction=1.0),
        row(fraction=0.01),
        row(fraction=None, samples=16),
        row(fraction=0.255),
        row(fraction=None, samples=2),
    )
    assert [line.labels for line in group.lines] == ["2 per class", "16 per class", "1 %", "25.5 %", "100 %"]


def test_protocols_come_in_the_registry_s_order_and_unknown_ones_last(read):
    groups = read(row("mine_own"), row("linear"), row("finetune"), row("linear_conv"), row("knn"))
    assert [group.title for group in groups] == ["kNN", "Linear", "Linear (1×1 conv)", "Fine-tuning", "Mine own"]


def test_of_rows_measured_twice_the_later_one_counts(read):
    (group,) = read(row(top1=10.0), row(encoder="random", top1=20.0), row(top1=30.0))
    assert group.lines[0].scores["pretrained"].top1 == 30.0
    assert group.lines[0].gain("random") == pytest.approx(10.0)
    assert group.lines[0].gain("scratch") is None


def test_encoders_pretrained_first_then_baselines_then_others(read):
    groups = read(row(encoder="imagenet"), row(encoder="scratch"), row("linear", "random"), row(encoder="pretrained"))
    assert results.encoders(groups) == ["pretrained", "random", "scratch", "imagenet"]


def test_headlines_are_the_most_labels_of_each_protocol(read):
    groups = read(row(top1=60.0), row(fraction=0.1, top1=40.0), row("linear", "random"))
    ((title, line),) = results.headlines(groups)
    assert title == "kNN" and line.scores["pretrained"].top1 == 60.0


def test_labels_are_plotted_where_there_are_several(read, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "lines", lambda series, **options: drawn.append((series, options)) or "svg")
    groups = read(
        row("knn"),
        row("finetune", fraction=0.5, top1=70.0),
        row("finetune", fraction=0.1, top1=55.0),
        row("finetune", "scratch", fraction=0.1, top1=31.0),
        row("finetune", fraction=None, samples=1, top1=20.0),
    )
    assert [title for title, _ in results.label_plots(groups)] == ["Fine-tuning, labels used"]
    ((pretrained, scratch), options) = drawn[0]
    np.testing.assert_allclose(pretrained.x, [10.0, 50.0])
    np.testing.assert_allclose(pretrained.y, [55.0, 70.0])
    np.testing.assert_allclose((scratch.x, scratch.y), [[10.0], [31.0]])
    assert (pretrained.dash, pretrained.marker) != (scratch.dash, scratch.marker)
    assert options["log_x"]


def test_other_settings_have_lines_and_curves_of_their_own(read, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "lines", lambda series, **options: drawn.append(series) or "svg")
    other = {"setting": {"data": "cifar10"}}
    groups = read(
        row(top1=70.0, **other), row(fraction=0.1, top1=60.0, **other), row(top1=50.0), row(fraction=0.1, top1=40.0)
    )
    assert [(line.setting, line.labels) for line in groups[0].lines] == [
        ("", "10 %"),
        ("", "100 %"),
        ("data cifar10", "10 %"),
        ("data cifar10", "100 %"),
    ]
    assert results.settings(groups) == ["", "data cifar10"]
    ((_, line),) = results.headlines(groups)
    assert line.scores["pretrained"].top1 == 50.0  # the run's own data come first
    titles = [title for title, _ in results.label_plots(groups)]
    assert titles == ["kNN, labels used", "kNN, labels used, data cifar10"]
    assert [series[0].y.tolist() for series in drawn] == [[40.0, 50.0], [60.0, 70.0]]


def test_the_headline_is_of_the_setting_nearest_to_the_default(read):
    limits = {"limit_train": 60, "limit_test": 40}
    groups = read(row(top1=1.0, setting={"data": "cifar10", **limits}), row(top1=2.0, setting=limits))
    ((_, line),) = results.headlines(groups)
    assert line.scores["pretrained"].top1 == 2.0 and results.settings(groups)[0] == line.setting


def test_rows_of_other_weights_are_found(read):
    groups = read(row(pretraining_step=1), row(encoder="random", pretraining_step=None), row("linear"))
    assert results.outdated(groups, 4) == [1]
    assert results.outdated(groups, 1) == results.outdated(groups, None) == []


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ((None, None), "the test images"),
        ((1000, 1000), "1,000 test images"),
        ((500, 10000), "500 to 10,000 test images"),
    ],
)
def test_number_of_test_images(read, counts, text):
    rows = [row(protocol, test_images=count) for protocol, count in zip(("knn", "linear"), counts, strict=True)]
    assert results.measured_on(read(*rows)) == text


def test_nothing_measured(read):
    assert read() == [] and results.headlines([]) == [] and results.label_plots([]) == []
