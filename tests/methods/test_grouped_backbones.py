"""Methods whose backbone converts colours and splits channels: after training it is a backbone like any other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sslfast.evaluate import evaluate
from sslfast.export import export
from sslfast.methods import build
from sslfast.report import write_report
from sslfast.train import TrainConfig, load_run, pretrain


@pytest.mark.parametrize("name", ["colorization", "split_brain"])
def test_a_run_is_evaluated_reported_and_exported(name: str, tmp_path: Path) -> None:
    """One backbone that takes RGB images, for which nothing else need know of Lab or of halves."""
    config = TrainConfig(
        method=name,
        data="shapes",
        backbone="resnet10_narrow",
        limit=40,
        epochs=1,
        batch_size=20,
        out=str(tmp_path / "run"),
    )
    run = pretrain(config)
    protocols = ("knn", "linear", "linear_conv", "finetune")
    rows = evaluate(run, protocols, limit_train=40, limit_test=20, baseline_backbone="resnet10_narrow", epochs=1)
    assert [row["protocol"] for row in rows[::2]] == list(protocols)
    assert "data:image/png" in write_report(run).read_text()
    images = torch.rand(2, 3, 32, 32)
    fresh = build(name, "resnet10_narrow", seed=9).backbone.eval()
    fresh.load_state_dict(load_file(export(run)))
    with torch.no_grad():
        assert torch.equal(fresh(images), load_run(run).backbone()(images))
