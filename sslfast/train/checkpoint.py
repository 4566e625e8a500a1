"""Checkpoints: written whole or not at all, and loaded without running code."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sslfast.errors import TrainingError, UserError

CHECKPOINT_FILE = "last.ckpt"

# What makes weights fit: the checkpoint of another one of these cannot be loaded.
IDENTITY = ("method", "method_options", "backbone", "image_size")


def write_atomically(path: Path, data: bytes | memoryview, cure: str | None = None) -> None:
    """Writes a file so that `path` holds either all of `data` or what it held before, also after a power cut.

    Args:
        path: the file.
        data: all of it.
        cure: what to do when it cannot be written, for the message; absent, to resume the run of the folder.

    Raises:
        TrainingError: the file cannot be written (disk full, folder read-only).
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the new name is on disk, too
        finally:
            os.close(folder)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise TrainingError(
            f"cannot save {path} ({len(data) / 1e6:.1f} MB): {error.strerror or error}; "
            + (cure or f"free space there, then continue with --resume; {last_good(path.parent)}")
        ) from error


def last_good(folder: Path) -> str:
    """Which checkpoint of a run folder there is to go back to, for a message."""
    path = folder / CHECKPOINT_FILE
    return f"the last good checkpoint is {path}" if path.exists() else "there is no checkpoint yet"


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Saves nested dictionaries, lists, numbers, text and tensors.

    Raises:
        TrainingError: the file cannot be written; what `path` held before stays.
    """
    # Through memory: torch's own file writer turns a full disk into an error without the cause.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getbuffer())


def load_checkpoint(path: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """Loads a checkpoint on the CPU.

    Args:
        path: the file.
        identity: what the weights are meant for, at the keys of `IDENTITY`.

    Raises:
        UserError: no such file, a damaged one, or the checkpoint of another method, backbone or image size.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        saved = state["config"]
    except FileNotFoundError as error:
        raise UserError(f"there is no {path}; the run stopped before its first checkpoint, start it again") from error
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path} is no checkpoint, or a damaged one ({reason}); restore it or start again") from error
    for name in IDENTITY:
        if saved.get(name) != identity[name]:
            raise UserError(
                f"{path} was made with {name} {saved.get(name)!r}, not {identity[name]!r}; "
                f"use it with {name} {saved.get(name)!r}, or start another run with another --out"
            )
    return state


def load_weights(method: nn.Module, state: dict[str, Any], path: Path) -> None:
    """Puts the weights of a loaded checkpoint into `method`.

    Raises:
        UserError: they do not fit, because the method's code has changed.
    """
    try:
        method.load_state_dict(state["method"])
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"the weights of {path} do not fit its method as the code is now: {reason}; start again"
        ) from error


def random_state(device: torch.device) -> dict[str, Any]:
    """State of every global random generator a method may draw from."""
    bits = np.random.get_state(legacy=False)
    return {
        "python": random.getstate(),
        "numpy": {**bits, "state": {**bits["state"], "key": bits["state"]["key"].tolist()}},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Puts the generators back to `random_state`'s state."""
    random.setstate(state["python"])
    bits = state["numpy"]
    np.random.set_state({**bits, "state": {**bits["state"], "key": np.array(bits["state"]["key"], dtype=np.uint32)}})
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"], device)


def seed_everything(seed: int) -> None:
    """Seeds every global random generator a method may draw from."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
