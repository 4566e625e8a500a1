from __future__ import annotations

import csv
import math

import numpy as np
import pytest
import torch
from PIL import Image

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


@pytest.mark.parametrize("method", ["colorization", "split_brain", "cpc", "jigsaw"])
def test_pretext_tasks_train_on_photographs(photos, tmp_path, method):
    """JPEG files of many sizes, as they come, in views that are larger than the smallest data sets'."""
    config = TrainConfig(
        method=method,
        data="folder",
        root=str(photos),
        limit=8,
        backbone="resnet10_narrow",
        image_size=64,
        epochs=2,
        batch_size=4,
        max_steps=2,
        device="cpu",
        out=str(tmp_path / method),
    )
    run = pretrain(config)
    with (run / "metrics.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["step"] == "2" and 0 < float(row["loss"]) < math.inf
    with Image.open(run / "pictures" / "views.png") as picture:
        first = np.asarray(picture)[2:66, 2:66]  # of the grid, inside its border
    assert len(np.unique(first)) > 100
    backbone = load_run(run).backbone()
    with torch.no_grad():
        maps = backbone.feature_map(torch.randn(2, 3, 64, 64))
    assert maps.shape[:2] == (2, backbone.map_channels) and maps.isfinite().all()
