"""Runs that decode as they go equal those that keep their images in memory: the files are PNG, so pixels are exact."""

import numpy as np
import pytest
import torch
from PIL import Image

from sslfast.errors import DataError, UserError
from sslfast.train import TrainConfig, pretrain


@pytest.fixture
def files(tmp_path):
    """44 images of mixed sizes in two classes: 5 batches of 8 an epoch."""
    pytest.importorskip("nvidia.dali")
    draw = np.random.default_rng(0)
    for number in range(44):
        path = tmp_path / "images" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (8 + number % 3, 9, 3), dtype=np.uint8)).save(path)
    return {"data": "folder", "root": str(tmp_path / "images")}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("method", ["Brightness", "Clustering"])
def test_both_loaders_make_the_same_run(tiny, weights, metrics, files, method):
    kept = pretrain(tiny("kept", method, **files))
    decoded = pretrain(tiny("decoded", method, loader="dali", **files))
    assert same(weights(kept), weights(decoded)) and metrics(kept) == metrics(decoded)
    assert (decoded / "pictures" / "views.png").is_file()


@pytest.mark.parametrize("then", ["dali", "memory"])
def test_resume_in_mid_epoch_with_either_loader(tiny, weights, metrics, files, then):
    straight = pretrain(tiny("straight", **files))
    stopped = pretrain(tiny("stopped", loader="dali", max_steps=7, **files))
    pretrain(TrainConfig(out=str(stopped), max_steps=0, loader=then), resume=True)
    assert same(weights(straight), weights(stopped)) and metrics(straight) == metrics(stopped)


def test_a_corrupt_file_ends_the_run_with_its_name_or_is_skipped(tiny, metrics, files, tmp_path):
    (tmp_path / "images" / "a" / "4.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"4\.png cannot be decoded"):
        pretrain(tiny("raise", loader="dali", **files))
    with pytest.warns(UserWarning, match=r"skipped 1 of 44 .*4\.png"):
        run = pretrain(tiny("skip", loader="dali", on_error="skip", **files))
    assert [row["step"] for row in metrics(run)] == ["5", "10", "15"]


def test_a_corrupt_file_ends_all_ranks(tiny, files, tmp_path):
    (tmp_path / "images" / "a" / "4.png").write_bytes(b"broken")
    with pytest.raises(Exception, match=r"4\.png cannot be decoded"):
        pretrain(tiny(loader="dali", devices=2, **files))


def test_a_source_without_files(tiny, files):
    with pytest.raises(UserError, match="Dots has none; use data 'folder' or 'webdataset'"):
        pretrain(tiny(loader="dali"))
    with pytest.raises(UserError, match="loader is 'disk'"):
        pretrain(tiny(loader="disk", **files))
