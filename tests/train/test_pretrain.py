from __future__ import annotations

import math
import os
import resource
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sslfast.errors import TrainingError, UserError
from sslfast.export import SUFFIXES
from sslfast.registry import resolve as find
from sslfast.train import Interrupted, TrainConfig, load_run, pretrain
from sslfast.train.config import resolve

Brightness = find("methods", "train.tiny:Brightness")


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_leaves_its_folder(tiny, metrics, capsys):
    run = pretrain(tiny())
    assert {path.name for path in run.iterdir()} == {
        "config.yaml", "metrics.csv", "tb", "last.ckpt", "backbone.safetensors", "pictures",
    }  # fmt: skip
    rows = metrics(run)
    assert list(rows[0]) == ["epoch", "step", "loss", "learning_rate", "target"]
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "5"), ("2", "10"), ("3", "15")]
    # The cosine's factor at the last step of each epoch, from the recipe's 0.1.
    expected = [0.05 * (1 + math.cos(math.pi * step / 15)) for step in (4, 9, 14)]
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx(expected)
    assert yaml.safe_load((run / "config.yaml").read_text())["learning_rate"] == 0.1
    first, *lines = capsys.readouterr().out.splitlines()
    assert "Brightness with " in first and first.endswith(" on cpu: 44 images, batch size 8, 15 steps")
    assert [line.split("  ")[0] for line in lines] == [f"epoch {k}/3" for k in (1, 2, 3)]
    board = EventAccumulator(str(run / "tb")).Reload()
    assert [event.step for event in board.Scalars("loss")] == list(range(1, 16))
    losses = [event.value for event in board.Scalars("epoch/loss")]
    assert losses == pytest.approx([float(row["loss"]) for row in rows])


def test_time_is_shared_out(tiny):
    header, first, *_ = (pretrain(tiny()) / "metrics.csv").read_text().splitlines()
    row = dict(zip(header.split(","), map(float, first.split(",")), strict=True))
    shares = [row[f"{part}_share"] for part in ("data", "views", "forward", "backward", "optimizer")]
    assert sum(shares) == pytest.approx(1.0, abs=1e-3) and row["images_per_second"] > 0


def test_the_same_run_again_is_the_same(tiny, metrics, weights):
    first, second, other = pretrain(tiny("a")), pretrain(tiny("b")), pretrain(tiny("c", seed=1))
    assert same(weights(first), weights(second)) and metrics(first) == metrics(second)
    assert not same(weights(first), weights(other))


def test_the_loss_falls(tiny, metrics):
    rows = metrics(pretrain(tiny(epochs=20, method_options={"noise": 0.0})))
    assert float(rows[-1]["loss"]) < 0.5 * float(rows[0]["loss"])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "lars", "learning_rate": 1.0},
        {"optimizer": "adamw", "learning_rate": 0.01, "schedule": "plateau"},
        {"accumulate": 2, "clip_norm": 0.5, "warmup_epochs": 1},
        {"method": "Adversarial"},
        {"method": "Clustering"},
        {"precision": "bf16-mixed"},
    ],
    ids=lambda changes: "-".join(map(str, changes)) or "plain",
)
@pytest.mark.parametrize("stop", [1, 4, 5, 7])
def test_resume_is_exact(tiny, metrics, weights, changes, stop, capsys):
    straight = pretrain(tiny("straight", **changes))
    stopped = pretrain(tiny("stopped", max_steps=stop, **changes))
    assert int(metrics(stopped)[-1]["step"]) == stop
    capsys.readouterr()
    resumed = pretrain(TrainConfig(out=str(stopped), max_steps=0), resume=True)
    assert f"; goes on after step {stop}\n" in capsys.readouterr().out
    assert same(weights(straight), weights(resumed))
    assert metrics(straight) == metrics(resumed)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_tells_how_to_resume(tiny, metrics, weights, monkeypatch, signum):
    straight = pretrain(tiny("straight"))
    after_step = Brightness.after_step

    def stop(self, step, steps):
        after_step(self, step, steps)
        if step == 7:
            os.kill(os.getpid(), signum)

    before = signal.getsignal(signum)
    with monkeypatch.context() as patch, pytest.raises(Interrupted) as caught:
        patch.setattr(Brightness, "after_step", stop)
        pretrain(tiny("stopped run"))
    stopped = Path(tiny("stopped run").out)
    assert caught.value.exit_code == 128 + signum
    assert f"stopped by {signum.name} at step 7 of 15; saved {stopped}/last.ckpt" in str(caught.value)
    assert f"sslfast pretrain --resume --out '{stopped}'" in str(caught.value)
    assert signal.getsignal(signum) is before
    assert len(metrics(stopped)) == 1
    pretrain(TrainConfig(out=str(stopped)), resume=True)
    assert same(weights(straight), weights(stopped)) and metrics(straight) == metrics(stopped)


@pytest.mark.parametrize(
    ("changes", "last"),
    [
        ({"method": "Grouping", "checkpoint_every": 2}, 15),
        ({"accumulate": 2, "schedule": "plateau"}, 9),
    ],
    ids=["clusters", "accumulates"],
)
def test_a_stop_at_any_step_loses_nothing(tiny, metrics, weights, monkeypatch, changes, last):
    straight = pretrain(tiny("straight", **changes))
    kind = find("methods", f"train.tiny:{changes.get('method', 'Brightness')}")
    after_step = kind.after_step
    for at in range(1, last + 1):

        def stop(self, step, steps, at=at):
            after_step(self, step, steps)
            if step == at:
                os.kill(os.getpid(), signal.SIGTERM)

        config = tiny(f"stopped{at}", **changes)
        with monkeypatch.context() as patch:
            patch.setattr(kind, "after_step", stop)
            if at == last:  # the run is at its end, and ends as any other
                pretrain(config)
            else:
                with pytest.raises(Interrupted, match=f"at step {at} of {last}"):
                    pretrain(config)
        stopped = Path(config.out)
        # The epochs that are done have their rows.
        assert len(metrics(stopped) if (stopped / "metrics.csv").exists() else []) == at * 3 // last
        if at < last:
            pretrain(TrainConfig(out=config.out), resume=True)
        assert same(weights(straight), weights(stopped)), at
        assert metrics(straight) == metrics(stopped), at


def test_what_a_clustering_method_made_is_in_a_run_that_is_opened(tiny, weights):
    run = pretrain(tiny(method="Grouping", max_steps=7))
    labels = load_run(run).method().labels
    assert len(labels) == 44 and torch.equal(labels, weights(run)["labels"])
    assert len(labels.unique()) > 1


def test_resuming_a_finished_run_changes_nothing(tiny, weights, metrics):
    run = pretrain(tiny())
    before, rows = weights(run), metrics(run)
    pretrain(TrainConfig(out=str(run)), resume=True)
    assert same(before, weights(run)) and metrics(run) == rows


def test_steps_are_counted_over_accumulated_batches(tiny, metrics):
    run = pretrain(tiny(accumulate=2))
    assert [row["step"] for row in metrics(run)] == ["3", "6", "9"]  # 5 batches: 2 + 2 + 1


def test_accumulated_batches_step_as_one_large_batch(tiny, weights):
    changes = {"backbone": "train.tiny:PlainBackbone", "method_options": {"noise": 0.0}, "max_steps": 2}
    changes["schedule"] = "constant"
    whole = pretrain(tiny("whole", batch_size=16, **changes))
    halves = pretrain(tiny("halves", batch_size=8, accumulate=2, **changes))
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(halves)[name], value, rtol=1e-5, atol=1e-6, msg=name)


def test_clipping_bounds_the_step(tiny, weights):
    changes = {"max_steps": 1, "weight_decay": 0.0, "schedule": "constant"}
    start = pretrain(tiny("start", learning_rate=0.0, **changes))
    moved = pretrain(tiny("moved", learning_rate=1.0, clip_norm=0.01, **changes))
    names = [name for name in weights(start) if "running" not in name and "num_batches" not in name]
    squares = sum(float((weights(start)[name] - weights(moved)[name]).square().sum()) for name in names)
    assert math.sqrt(squares) == pytest.approx(0.01, rel=1e-3)


def test_each_player_has_an_optimiser(tiny):
    state = torch.load(pretrain(tiny(method="Adversarial")) / "last.ckpt", weights_only=True)
    assert len(state["optimizers"]) == len(state["schedules"]) == 2


def test_clustering_methods_get_features_of_every_image(tiny, weights):
    assert weights(pretrain(tiny(method="Clustering")))["seen"][0] == 44


def test_hooks_know_the_step(tiny, monkeypatch):
    seen = []
    monkeypatch.setattr(Brightness, "after_step", lambda self, step, steps: seen.append((step, steps)))
    pretrain(tiny(epochs=1))
    assert seen == [(step, 5) for step in range(1, 6)]


def test_compiled_run_is_close(tiny, weights, monkeypatch):
    # The whole way but for the code generator, which takes a minute.
    compile_ = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compile_(module, backend="aot_eager"))
    changes = {"epochs": 1, "method_options": {"noise": 0.0}, "backbone": "train.tiny:PlainBackbone"}
    plain = pretrain(tiny("plain", **changes))
    torch.compiler.reset()
    compiled = pretrain(tiny("compiled", compile=True, **changes))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    for name, value in weights(plain).items():
        torch.testing.assert_close(weights(compiled)[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_limit_takes_the_first_images(tiny, weights, metrics):
    run = pretrain(tiny(limit=17, method="Clustering"))
    assert weights(run)["seen"][0] == 17 and metrics(run)[-1]["step"] == "6"


def test_a_loss_that_is_not_finite_names_the_step_and_the_checkpoint(tiny):
    config = tiny(method="Diverging", method_options={"at": 7})
    with pytest.raises(TrainingError, match=f"the loss is nan at step 7 .epoch 2.; .*is {config.out}/last.ckpt"):
        pretrain(config)
    state = torch.load(Path(config.out) / "last.ckpt", weights_only=True)
    assert state["position"]["step"] == 5
    with pytest.raises(TrainingError, match=r"at step 2 .*there is no checkpoint yet"):
        pretrain(tiny("other", method="Diverging"))


def test_full_disk_keeps_the_last_good_checkpoint(tiny, weights, monkeypatch):
    config = tiny()
    run = pretrain(tiny(max_steps=5))
    before = weights(run)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((run / "last.ckpt").stat().st_size // 2, limits[1]))
    try:
        with pytest.raises(TrainingError, match=f"cannot save {run}/last.ckpt.*free space.*--resume"):
            pretrain(TrainConfig(out=config.out, max_steps=0), resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert same(before, weights(run))
    pretrain(TrainConfig(out=config.out, max_steps=0), resume=True)


def test_a_run_is_not_overwritten_unasked(tiny, weights):
    run = pretrain(tiny())
    before = weights(run)
    with pytest.raises(UserError, match=f"{run} already holds a run; continue it with --resume, .*--overwrite"):
        pretrain(tiny(seed=1))
    assert same(before, weights(run))
    (run / "notes.txt").write_text("mine")
    for name in ("report.html", *(f"backbone{suffix}" for suffix in SUFFIXES.values())):
        (run / name).write_text("of the old run")
    pretrain(tiny(seed=1, max_steps=5), overwrite=True)
    assert not same(before, weights(run))
    assert (run / "notes.txt").exists() and (run / "backbone.safetensors").read_bytes() != b"of the old run"
    assert not any(
        run.joinpath(name).exists() for name in ("report.html", "backbone.onnx", "backbone.timm.safetensors")
    )
    assert len((run / "metrics.csv").read_text().splitlines()) == 2


def test_a_folder_without_a_run_keeps_what_it_holds(tiny):
    out = Path(tiny().out)
    out.mkdir()
    (out / "report.html").write_text("of something else")
    assert (pretrain(tiny(max_steps=1)) / "report.html").exists()


def test_a_run_that_cannot_start_leaves_the_old_one(tiny, weights):
    run = pretrain(tiny())
    with pytest.raises(UserError, match="has only 44 images"):
        pretrain(tiny(batch_size=64), overwrite=True)
    assert (run / "last.ckpt").exists()


def test_resume_of_something_else_is_refused(tiny):
    run = pretrain(tiny(max_steps=2))
    with pytest.raises(UserError, match=r"has method 'train.tiny:Brightness', not 'simclr'"):
        pretrain(TrainConfig(out=str(run), method="simclr"), resume=True)
    with pytest.raises(UserError, match=r"has backbone .*, not 'resnet18'"):
        pretrain(TrainConfig(out=str(run), backbone="resnet18"), resume=True)
    with pytest.raises(UserError, match="is no run folder"):
        pretrain(TrainConfig(out=str(run / "none")), resume=True)
    with pytest.raises(UserError, match="name the run to resume with --out"):
        pretrain(TrainConfig(), resume=True)
    with pytest.raises(UserError, match="exclude each other"):
        pretrain(TrainConfig(out=str(run)), resume=True, overwrite=True)
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("tiny:Brightness", "tiny:Adversarial"))
    with pytest.raises(UserError, match=r"last.ckpt was made with method 'train.tiny:Brightness', not"):
        pretrain(TrainConfig(out=str(run)), resume=True)
    (run / "config.yaml").write_text(text.replace("data_options: {}", "data_options: {count: 20}"))
    with pytest.raises(UserError, match="was made with 44 images and the data set has 20 now"):
        pretrain(TrainConfig(out=str(run)), resume=True)


def test_a_run_stopped_before_its_first_checkpoint_starts_over(tiny, weights):
    straight = pretrain(tiny("straight"))
    with pytest.raises(TrainingError):
        pretrain(tiny("early", method="Diverging"))
    early = Path(tiny("early").out)
    text = (early / "config.yaml").read_text()
    (early / "config.yaml").write_text(text.replace("Diverging", "Brightness"))
    pretrain(TrainConfig(out=str(early)), resume=True)
    assert same(weights(straight), weights(early))


def test_of_two_runs_that_make_one_folder_at_once_one_goes_on(tiny, monkeypatch):
    module = sys.modules["sslfast.train.pretrain"]
    config, write, refused = resolve(tiny()), module.write_atomically, []

    def write_late(*arguments):
        monkeypatch.setattr(module, "write_atomically", write)
        with pytest.raises(UserError, match="another process is training in") as error:
            module._prepare_folder(config, resume=False)
        refused.append(error)
        write(*arguments)

    monkeypatch.setattr(module, "write_atomically", write_late)
    os.close(module._prepare_folder(config, resume=False))
    assert refused
    os.close(module._prepare_folder(config, resume=True))  # the claim ends with the run


def test_a_folder_that_cannot_be_made_is_not_claimed(tiny, monkeypatch):
    module = sys.modules["sslfast.train.pretrain"]
    config = resolve(tiny())

    def fail(*_):
        raise TrainingError("full")

    with monkeypatch.context() as full:
        full.setattr(module, "write_atomically", fail)
        with pytest.raises(TrainingError, match="full"):
            module._prepare_folder(config, resume=False)
    os.close(module._prepare_folder(config, resume=False))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 64}, "batch_size is 64, but the data set has only 44 images"),
        ({"batch_size": 9, "devices": 2}, "batch_size 9 cannot be split over 2 devices"),
        ({"nodes": 2}, "start the command on every node with torchrun or srun"),
        ({"method_options": {"nois": 1.0}}, "did you mean 'noise'"),
        ({"data_options": {"cont": 1}}, "did you mean 'count'"),
        ({"data": "train.tiny:Nothing"}, "cannot load"),
        ({"out": "/proc/none/run"}, "cannot make the run folder"),
    ],
)
def test_bad_input_is_explained_before_anything_is_written(tiny, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        pretrain(tiny(**changes))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("devices", "least"), [(1, 2), (3, 6)])
def test_a_batch_too_small_for_batch_norm_is_explained(tiny, tmp_path, devices, least):
    config = replace(tiny(batch_size=devices, devices=devices), method="simsiam")
    with pytest.raises(UserError, match=f"'simsiam' needs 2 images or more .* at least {least}$"):
        pretrain(config)
    assert list(tmp_path.iterdir()) == []


def test_a_batch_norm_of_a_single_value_is_explained(tiny):
    with pytest.raises(UserError, match=r"batch norm got a single value a channel .* batch size of 2 .* larger image"):
        pretrain(tiny(backbone="train.tiny:Narrowing", batch_size=1))
    pretrain(tiny(backbone="train.tiny:Narrowing", batch_size=2, max_steps=1), overwrite=True)


@pytest.mark.parametrize("channels", [1, 4])
def test_images_of_other_channels(tiny, channels):
    assert (pretrain(tiny(epochs=1, data_options={"channels": channels})) / "pictures" / "views.png").exists()
