"""evaluate on a run folder: rows, baselines, results.json, and every mistake a user can make."""

from __future__ import annotations

import json
import os
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from sslfast.data import ImageFiles
from sslfast.errors import DataError, TrainingError, UserError
from sslfast.evaluate import Encoder, Scores, evaluate
from sslfast.train import TrainConfig, load_run, pretrain
from sslfast.train.run import build_method

CLASSES = {"blue": (60, 60, 200), "green": (60, 200, 60), "red": (200, 60, 60)}
COUNTS = {"train": 12, "test": 6}
FAST = {"baseline_backbone": "resnet10_narrow", "epochs": 1}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Noisy 16 px images of three colours in class folders."""
    root = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for split, count in COUNTS.items():
        for name, colour in CLASSES.items():
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.clip(np.array(colour) + random.normal(0, 70, (16, 16, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def pretrained(photos, tmp_path_factory):
    """A run folder after two steps of training."""
    out = tmp_path_factory.mktemp("runs") / "rotation"
    return pretrain(
        TrainConfig(
            method="rotation",
            data="folder",
            root=str(photos),
            backbone="resnet10_narrow",
            image_size=16,
            batch_size=18,
            epochs=1,
            device="cpu",
            out=str(out),
        )
    )


@pytest.fixture
def run(pretrained, tmp_path):
    """A copy of the run folder, without results."""
    return shutil.copytree(pretrained, tmp_path / "run")


def key(row):
    return row["protocol"], row["encoder"], row["label_fraction"], row["samples_per_class"]


def test_one_row_for_each_protocol_budget_and_encoder(run):
    protocols = ["knn", "linear", "linear_conv", "finetune"]
    rows = evaluate(run, protocols, label_fractions=[0.5, 1.0], samples_per_class=[2], **FAST)
    budgets = [(0.5, None), (1.0, None), (None, 2)]
    assert [key(row) for row in rows] == [
        (protocol, encoder, *budget)
        for protocol, baseline in zip(protocols, ["random", "random", "random", "scratch"], strict=True)
        for budget in budgets
        for encoder in ("pretrained", baseline)
    ]
    assert json.loads((run / "results.json").read_text()) == rows
    for row in rows:
        assert row["train_images"] == {(0.5, None): 18, (1.0, None): 36, (None, 2): 6}[key(row)[2:]]
        assert row["test_images"] == 18
        assert 0 <= row["top1"] <= row["top5"] == 100
        assert row["seconds"] > 0
    assert {row["steps"] for row in rows if row["protocol"] == "finetune"} == {1}


def test_the_same_seed_gives_the_same_rows_and_rows_are_merged(run):
    def measured(**options):
        rows = evaluate(run, ["knn", "finetune"], [0.5], **FAST, **options)
        return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]

    first = measured(seed=3)
    torch.rand(5)  # what the caller draws does not matter
    assert measured(seed=3) == first
    other = evaluate(run, ["linear"], [0.5], baselines=False)
    stored = json.loads((run / "results.json").read_text())
    assert [key(row) for row in stored] == [key(row) for row in (*first, *other)]


def streamed(run, **changes):
    """The run as if its images had been decoded by DALI as they were needed."""
    pytest.importorskip("nvidia.dali")
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "loader": "dali", **changes}))
    return run


def test_files_of_a_dali_run_are_never_in_memory_as_a_whole(run, monkeypatch):
    protocols = ["knn", "linear", "linear_conv", "finetune"]

    def measured():
        rows = evaluate(run, protocols, label_fractions=[1.0], samples_per_class=[2], seed=3, **FAST)
        return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]

    kept = measured()
    streamed(run)
    monkeypatch.setattr(ImageFiles, "read", None)
    assert measured() == kept


def test_files_of_a_dali_run_that_are_skipped(run, photos, tmp_path):
    root = shutil.copytree(photos, tmp_path / "photos")
    (root / "test" / "green" / "1.png").write_bytes(b"broken")
    streamed(run, root=str(root))
    with pytest.raises(DataError, match=r"1\.png cannot be decoded"):
        evaluate(run, ["knn"])
    streamed(run, root=str(root), on_error="skip")
    with pytest.warns(UserWarning, match=r"skipped 1 of 18 .*1\.png"):
        rows = evaluate(run, ["knn"], baselines=False)
    assert [(row["train_images"], row["test_images"]) for row in rows] == [(36, 17)]


def test_colours_are_told_apart(run):
    rows = evaluate(run, ["linear"], baselines=False)
    assert [row["encoder"] for row in rows] == ["pretrained"]
    assert rows[0]["top1"] > 90


def test_encoders_are_those_of_the_run(run, monkeypatch):
    """The pretrained one has the weights of the run, the random one those before training."""
    seen = {}

    def spy(encoder: Encoder, subset: torch.Tensor) -> Scores:
        seen[len(seen)] = encoder
        return Scores(1.0, 2.0, {"remark": "mine"})

    monkeypatch.setitem(sys.modules, "my_protocols", SimpleNamespace(spy=spy))
    rows = evaluate(run, ["my_protocols:spy"])
    assert [row["remark"] for row in rows] == ["mine", "mine"]
    saved = load_run(run)
    expected = [saved.method().backbone, build_method(saved.config, 3).backbone]
    for encoder, backbone in zip(seen.values(), expected, strict=True):
        assert encoder.classes == 3
        assert encoder.view == saved.method().evaluation_view
        for name, value in backbone.state_dict().items():
            torch.testing.assert_close(encoder.backbone.state_dict()[name], value, rtol=0, atol=0)
    weights = [next(backbone.parameters()) for backbone in expected]
    assert not weights[0].equal(weights[1])


def test_rows_say_what_they_were_measured_with(run, photos, tmp_path):
    def settings(*protocols, **options):
        rows = evaluate(run, protocols, **{"baselines": False, **options})
        assert json.loads((run / "results.json").read_text())[-len(rows) :] == rows  # none replaces another
        return [row["setting"] for row in rows]

    assert settings("knn") == [{}]
    (given,) = settings("knn", data="shapes", limit_train=20, limit_test=9)
    assert given == {"data": "shapes", "limit_train": 20, "limit_test": 9}
    moved = str(shutil.copytree(photos, tmp_path / "moved"))
    shutil.copytree(photos / "test", tmp_path / "moved" / "val")
    (tmp_path / "moved" / "notes").mkdir()  # other folders do not matter
    assert settings("knn", root=moved, test_split="val") == [{"root": moved, "test_split": "val"}]
    neighbours = {"knn": {"temperature": 0.1, "neighbours": 7}}
    assert settings("knn", protocol_options=neighbours) == [{"neighbours": 7}]  # 0.1 is the default
    assert settings("knn", seed=5) == [{}]  # the row has its seed
    assert settings("finetune", "linear_conv", epochs=1) == [{"epochs": 1}, {"epochs": 1}]
    both = settings("finetune", **FAST, baselines=True)
    assert both == [{"epochs": 1, "baseline_backbone": "resnet10_narrow"}] * 2
    assert settings("linear", baseline_backbone="resnet10_narrow") == [{}]  # not trained from scratch


def test_rows_name_the_step_of_the_weights(run):
    rows = evaluate(run, ["knn", "finetune"], **FAST)
    assert [row["pretraining_step"] for row in rows] == [2, None, 2, None]


def test_own_protocols_that_are_none(run, monkeypatch):
    def demanding(encoder, subset, width):
        return Scores(1.0, 2.0)

    own = SimpleNamespace(demanding=demanding, nothing=lambda encoder, subset: None, number=3)
    monkeypatch.setitem(sys.modules, "my_protocols", own)
    with pytest.raises(UserError, match=r"missing a required argument: 'width'; your own is a function"):
        evaluate(run, ["my_protocols:demanding"])
    given = {"my_protocols:demanding": {"width": 3}}
    assert evaluate(run, ["my_protocols:demanding"], protocol_options=given)[0]["top5"] == 2.0
    with pytest.raises(UserError, match=r"'my_protocols:nothing' gave None; .*sslfast\.evaluate\.Scores"):
        evaluate(run, ["my_protocols:nothing"])
    for name in ("my_protocols:number", "json:dumps"):
        with pytest.raises(UserError, match=f"'{name}' cannot be called with encoder, subset"):
            evaluate(run, [name])


def test_rows_measured_before_an_interruption_are_kept(run, monkeypatch):
    def interrupt(encoder: Encoder, subset: torch.Tensor) -> Scores:
        raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "my_protocols", SimpleNamespace(interrupt=interrupt))
    with pytest.raises(KeyboardInterrupt):
        evaluate(run, ["knn", "my_protocols:interrupt"], baselines=False)
    assert [key(row) for row in json.loads((run / "results.json").read_text())] == [("knn", "pretrained", 1.0, None)]


def test_only_the_images_of_the_budgets_are_read(run):
    rows = evaluate(run, ["knn"], [], samples_per_class=[1], baselines=False, limit_train=9, limit_test=6)
    assert (rows[0]["train_images"], rows[0]["test_images"]) == (3, 6)


def test_options_reach_their_protocol(run):
    def top1(**options):
        return evaluate(run, ["knn"], baselines=False, protocol_options={"knn": options})[0]["top1"]

    assert top1(neighbours=36, temperature=1e30) == pytest.approx(100 / 3)  # all votes are equal: chance
    assert top1(neighbours=1) > 60


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocols": ["knm"]}, "unknown protocol 'knm'; did you mean 'knn'"),
        ({"protocols": []}, "no protocol"),
        ({"label_fractions": [0.0]}, r"outside \(0, 1\]"),
        ({"label_fractions": [1.01]}, r"outside \(0, 1\]"),
        ({"label_fractions": []}, "no labels to evaluate with"),
        ({"samples_per_class": [13]}, "class 0 has 12 training images; give 12 or fewer"),
        ({"samples_per_class": [0]}, "give 1 or more"),
        ({"protocol_options": {"knn": {"neighbours": 0}}}, "k = 0"),
        ({"protocol_options": {"knn": {"neighbors": 5}}}, "no option 'neighbors'; did you mean 'neighbours'"),
        (
            {"protocol_options": {"knn": {"temperature": "1e-1"}}},
            "must be a number; YAML reads this as text, write 0.1",
        ),
        ({"protocol_options": {"knn": {"neighbours": "x"}}}, "neighbours='x' of protocol 'knn' must be a whole number"),
        ({"protocol_options": {"linear": {}}}, "'linear', which is not evaluated"),
        ({"epochs": 3}, "train no epochs"),
        ({"device": "gpu"}, "'cpu'"),
        ({"test_split": "train"}, "both splits are 'train'"),
        ({"data": "foldr"}, "did you mean 'folder'"),
        ({"data_options": {"labels": False}}, "train images have no labels"),
        ({"limit_train": 1}, "train images are all of class 0.*two classes or more"),
        ({"data_options": {"limit": 3}}, "data_options.limit .* --limit-train and --limit-test$"),
        ({"data_options": {"channels": 1}}, "1 channels and the backbone takes 3"),
        ({"protocols": ["finetune"], "baseline_backbone": "resnet81", "epochs": 1}, "did you mean.*resnet18"),
    ],
)
def test_mistakes_name_the_cause_and_the_cure(run, options, message):
    with pytest.raises(UserError, match=message):
        evaluate(run, **{"protocols": ["knn"], **options})


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere"):
        evaluate(tmp_path / "nowhere")


def test_damaged_results_are_found_before_anything_is_measured(run, monkeypatch):
    (run / "results.json").write_text("{")
    measured = []
    monkeypatch.setitem(sys.modules, "my_protocols", SimpleNamespace(spy=lambda encoder, subset: measured.append(1)))
    with pytest.raises(DataError, match=r"results\.json.*remove the file"):
        evaluate(run, ["my_protocols:spy"])
    assert not measured


def test_a_folder_that_takes_no_results_is_found_before_anything_is_measured(run, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: not (path == run and mode == os.W_OK))
    monkeypatch.setattr(Encoder, "pooled", property(lambda self: pytest.fail("measured")))
    with pytest.raises(TrainingError, match="cannot be written, and its results belong there"):
        evaluate(run, protocols=("knn",))
