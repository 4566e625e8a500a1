from __future__ import annotations

import random
import resource
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from sslfast.errors import TrainingError, UserError
from sslfast.train.checkpoint import (
    load_checkpoint,
    random_state,
    save_checkpoint,
    seed_everything,
    set_random_state,
    write_atomically,
)

IDENTITY = {"method": "simclr", "method_options": {"temperature": 0.5}, "backbone": "resnet18", "image_size": 32}


@contextmanager
def file_size_limit(size):
    """Files cannot grow over `size` bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_round_trip(tmp_path):
    state = {"config": IDENTITY, "weight": torch.arange(5), "random": random_state(torch.device("cpu"))}
    save_checkpoint(tmp_path / "last.ckpt", state)
    loaded = load_checkpoint(tmp_path / "last.ckpt", IDENTITY)
    assert torch.equal(loaded["weight"], state["weight"]) and loaded["config"] == IDENTITY
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_full_disk_keeps_the_last_good_checkpoint(tmp_path):
    path = tmp_path / "last.ckpt"
    save_checkpoint(path, {"config": IDENTITY, "weight": torch.zeros(10)})
    good = path.read_bytes()
    with (
        file_size_limit(4096),
        pytest.raises(TrainingError, match=f"cannot save {path}.*last good checkpoint is {path}"),
    ):
        save_checkpoint(path, {"config": IDENTITY, "weight": torch.zeros(100_000)})
    assert path.read_bytes() == good
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_folder_that_is_gone_is_named(tmp_path):
    with pytest.raises(TrainingError, match=r"cannot save .*gone/file.*No such file.*there is no checkpoint yet"):
        write_atomically(tmp_path / "gone" / "file", b"text")


@pytest.mark.parametrize("name", ["method", "method_options", "backbone", "image_size"])
def test_another_identity_is_refused_by_name(tmp_path, name):
    save_checkpoint(tmp_path / "last.ckpt", {"config": IDENTITY})
    with pytest.raises(UserError, match=f"was made with {name} .*, not 'other'"):
        load_checkpoint(tmp_path / "last.ckpt", {**IDENTITY, name: "other"})


def test_missing_and_damaged_files_are_named(tmp_path):
    path = tmp_path / "last.ckpt"
    with pytest.raises(UserError, match=f"there is no {path}"):
        load_checkpoint(path, IDENTITY)
    save_checkpoint(path, {"config": IDENTITY, "weight": torch.zeros(1000)})
    whole = path.read_bytes()
    for data in (b"", b"not a checkpoint", whole[: len(whole) // 2]):
        path.write_bytes(data)
        with pytest.raises(UserError, match=f"{path} is no checkpoint, or a damaged one"):
            load_checkpoint(path, IDENTITY)
    torch.save([1, 2], path)
    with pytest.raises(UserError, match="is no checkpoint"):
        load_checkpoint(path, IDENTITY)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"config": IDENTITY, "payload": Payload()}, tmp_path / "last.ckpt")
    with pytest.raises(UserError, match="is no checkpoint, or a damaged one"):
        load_checkpoint(tmp_path / "last.ckpt", IDENTITY)
    assert not (tmp_path / "ran").exists()


def test_random_state_continues_every_generator():
    device = torch.device("cpu")
    seed_everything(3)
    np.random.standard_normal(), random.gauss(0, 1)  # half of a pair is kept back by each
    state = random_state(device)

    def draw():
        return random.gauss(0, 1), np.random.standard_normal(), np.random.rand(), torch.rand(1).item()

    first = draw()
    assert draw() != first
    set_random_state(state, device)
    assert draw() == first
