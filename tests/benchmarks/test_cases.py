"""The cases of the suites: both sides of a training step learn, and what grows grows."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch

from sslfast.registry import METHODS


def setup(device: str = "cpu", **options: Any) -> Any:
    return importlib.import_module("benchmarks.run").Setup(device, 1, **options)


def training_cases(name: str, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    module = importlib.import_module("benchmarks.train.pretraining")
    monkeypatch.setattr(module, "BATCH", 8)
    run = importlib.import_module("benchmarks.run")
    monkeypatch.setattr(run, "SUITES", {"train": {name: run.SUITES["train"][name]}})
    return list(run.cases_of("train", (), setup()))


@pytest.mark.parametrize("name", METHODS)
def test_both_sides_train_and_tell_where_the_time_goes(name: str, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("lightly")
    pytest.importorskip("pytorch_metric_learning")
    free, small, *large = training_cases(name, monkeypatch)
    assert [case.settings["backbone"] for case in (free, small)] == ["one layer", "resnet10_narrow"]
    assert [case.settings["backbone"] for case in large] == (["resnet18"] if name == "simclr" else [])
    assert free.count == small.count == 8 * small.settings["batch"]
    libraries = importlib.import_module("benchmarks.peers.training").PEERS.get(name, {})
    for case in (free, small):
        assert list(case.contenders) == ["sslfast", *(f"{library}, 1 workers" for library in libraries)]
    for make in [*free.contenders.values(), small.contenders["sslfast"]]:
        epoch = make()
        before = [parameter.clone() for parameter in epoch.method.backbone.parameters()]
        parts = epoch()
        assert set(parts) == {"waiting for data", "views", "forward", "backward", "optimiser"}
        assert all(seconds > 0 for seconds in parts.values())
        after = epoch.method.backbone.parameters()
        assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
        if hasattr(epoch.loader, "_iterator"):
            epoch.loader._iterator._shutdown_workers()


def test_the_batch_grows_and_peers_stop_where_memory_ends():
    module = importlib.import_module("benchmarks.scaling.contrastive")
    cases = list(module.cases(setup(memory_bytes=2.0**30)))
    batches = [case.settings["batch"] for case in cases if case.axis == "batch"]
    assert (batches[0], batches[-1]) == (32, 32768) and batches == sorted(batches)
    assert [case.settings["dimension"] for case in cases if case.axis == "dimension"] == [64, 128, 256, 512, 1024]
    assert "lightly" in cases[0].contenders
    assert list(next(case for case in cases if case.settings["batch"] == 32768).contenders) == ["sslfast"]


def test_the_views_grow():
    module = importlib.import_module("benchmarks.scaling.images")
    cases = list(module.views(setup()))
    assert [case.settings["view_size"] for case in cases] == [32, 64, 96, 160, 224, 320, 512]
    assert {case.axis for case in cases} == {"view_size"}


def test_the_threads_grow():
    module, most = importlib.import_module("benchmarks.scaling.images"), torch.get_num_threads()
    three = importlib.import_module("benchmarks.run").Setup("cpu", 3)
    found = []
    try:
        for case in module.threads(three):
            assert torch.get_num_threads() == case.settings[case.axis]
            assert any(contender.endswith(f", {torch.get_num_threads()} workers") for contender in case.contenders)
            found.append((case.settings["view_size"], case.settings["threads"]))
        assert torch.get_num_threads() == 3  # as `benchmarks.run` had set it
    finally:
        torch.set_num_threads(most)
    assert found == [(view, threads) for view in (32, 224) for threads in (1, 2, 3)]
    assert not list(module.threads(setup("cuda")))


@pytest.mark.parametrize("name", ["lab", "patches"])
def test_the_images_grow(name: str):
    cases = list(getattr(importlib.import_module("benchmarks.scaling.images"), name)(setup()))
    assert [case.settings[case.axis] for case in cases] == [32, 64, 128, 256, 512]
    assert len({case.name for case in cases}) == 5
    assert len({case.settings["images"] * case.settings["image_size"] ** 2 for case in cases}) == 1
    result = cases[0].contenders["sslfast"]()()
    assert torch.is_tensor(result) or torch.is_tensor(result[0])


def test_ranks_answer_with_the_loss_of_all_batches(monkeypatch: pytest.MonkeyPatch):
    module = importlib.import_module("benchmarks.scaling.ranks")
    assert [case.settings["ranks"] for case in module.cases(setup())] == [1, 2, 4]
    call = module._Ranks("sslfast", 2, setup())
    call()
    call()
    processes = torch.multiprocessing.active_children()
    assert len(processes) >= 2
    del call
    for process in processes:
        process.join(20)
        assert process.exitcode == 0
