"""encode_shuffled: two processes against the same shuffle written plainly."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn

from sslfast.models import encode_shuffled

RANKS, BATCH = 2, 5


def _images(rank: int) -> Tensor:
    return torch.randn(BATCH, 3, 2, 2, generator=torch.Generator().manual_seed(rank))


def _encoder() -> nn.Module:
    torch.manual_seed(7)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.BatchNorm1d(4))


def _work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=RANKS)
    encoder, images = _encoder(), _images(rank).to(memory_format=torch.channels_last)
    torch.manual_seed(rank)  # each rank would draw its own order
    torch.save(encode_shuffled(encoder, images), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_each_rank_gets_its_images_back_in_order(tmp_path: Path) -> None:
    if not distributed.is_available() or not distributed.is_gloo_available():
        pytest.skip("this torch has no gloo")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    multiprocessing.spawn(_work, (str(tmp_path),), nprocs=RANKS)
    given = torch.cat([torch.load(tmp_path / f"{rank}.pt") for rank in range(RANKS)])

    encoder, images = _encoder(), torch.cat([_images(rank) for rank in range(RANKS)])
    torch.manual_seed(0)
    order = torch.randperm(RANKS * BATCH).tolist()
    expected = torch.empty(RANKS * BATCH, 4)
    for half in (order[:BATCH], order[BATCH:]):  # what one rank encodes, with batch statistics of its own
        expected[half] = encoder(images[half])
    torch.testing.assert_close(given, expected)
    assert not given.requires_grad


def test_one_rank_encodes_its_images_as_they_are() -> None:
    images = _images(0)
    encoded = encode_shuffled(_encoder(), images)
    assert torch.equal(encoded, _encoder()(images)) and not encoded.requires_grad
