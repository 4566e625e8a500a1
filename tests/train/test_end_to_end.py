from __future__ import annotations

import csv
import math

import pytest
import torch

from sslfast import registry
from sslfast.train import TrainConfig, load_run, pretrain


@pytest.mark.parametrize("method", sorted(registry.METHODS))
def test_every_method_trains_on_shapes(tmp_path, method):
    config = TrainConfig(
        method=method,
        data="shapes",
        limit=48,
        backbone="resnet10_narrow",
        image_size=32,
        epochs=2,
        batch_size=16,
        device="cpu",
        out=str(tmp_path / method),
    )
    run = pretrain(config)
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["3", "6"]
    assert all(math.isfinite(float(row["loss"])) and float(row["images_per_second"]) > 0 for row in rows)
    backbone, view = load_run(run).backbone(), load_run(run).evaluation_view()
    with torch.no_grad():
        features = backbone(torch.randn(2, 3, *view.shape))
    assert features.shape == (2, backbone.num_features) and features.isfinite().all()
    pictures = {path.stem for path in (run / "pictures").iterdir()}
    assert "views" in pictures and ("reconstruction" in pictures) == ("autoencoder" in method)
