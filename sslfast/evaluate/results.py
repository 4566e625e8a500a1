"""Scores, and the rows of results.json."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from sslfast.errors import DataError
from sslfast.train.checkpoint import write_atomically

Row = dict[str, Any]
Protocol = TypeVar("Protocol", bound=Callable[..., "Scores"])
IDENTITY = ("protocol", "encoder", "label_fraction", "samples_per_class")  # and `setting`: rows that agree are the same


@dataclass(frozen=True)
class Scores:
    """What a protocol measured.

    Attributes:
        top1, top5: accuracy on the test images, in percent; with five classes or fewer top5 is 100.
        details: more entries for the row, such as the number of optimiser steps.
    """

    top1: float
    top5: float
    details: Mapping[str, Any] = field(default_factory=dict)


def compared_with(baseline: str) -> Callable[[Protocol], Protocol]:
    """Marks a protocol with the baseline that it is compared with: "random" (the default) or "scratch".

    "random" is the encoder before training; "scratch" another network that is trained on the same labels, for
    protocols that train the whole network.
    """

    def mark(protocol: Protocol) -> Protocol:
        vars(protocol)["baseline"] = baseline
        return protocol

    return mark


def ranks(scores: Tensor, labels: Tensor) -> Tensor:
    """How many classes are placed before the true one: 0 is a correct prediction.

    Equal scores are placed in the order of the classes, and a score that is not a number before all others, so a
    model that tells nothing apart is never credited with more than chance.

    Args:
        scores: (M, classes) of any floating type, larger is better.
        labels: (M,) int64 in [0, classes).

    Returns:
        (M,) int64.
    """
    true = scores.gather(1, labels[:, None])
    before = torch.arange(scores.shape[1], device=scores.device) < labels[:, None]
    return (~(scores <= true) | ((scores == true) & before)).sum(dim=1)


def accuracy(placed: Tensor, **details: Any) -> Scores:
    """Top-1 and top-5 accuracy in percent from `ranks` ((M,) int64)."""
    top1, top5 = (100.0 * int((placed < k).sum()) / placed.numel() for k in (1, 5))
    return Scores(top1, top5, details)


def setting(row: Mapping[str, Any]) -> str:
    """What a row was measured with, in words, where that is not the default: "data cifar10, neighbours 5"; or "".

    It names the other data than the run's, its splits and limits, the options of the protocol, the network that is
    trained from scratch, and the seed unless that is 0.
    """
    known = ({"seed": row["seed"]} if row.get("seed") else {}) | (row.get("setting") or {})
    return ", ".join(f"{name.replace('_', '-')} {known[name]}" for name in sorted(known))


def labels_used(fraction: float | None, samples_per_class: int | None) -> str:
    """The labels that a row was measured with, in words: "10 %", or "5 per class"; one of the two is given."""
    if samples_per_class is not None:
        return f"{samples_per_class} per class"
    assert fraction is not None
    return f"{100 * fraction:g} %"


def read_rows(path: Path) -> list[Row]:
    """The rows of a results.json; none where there is no file.

    Raises:
        DataError: the file is no list of rows.
    """
    if not path.exists():
        return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise TypeError("not a list of rows")
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"cannot read {path}: {error}; remove the file and evaluate again") from error
    return rows


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Other processes (ranks, or evaluations in other terminals) that add rows in this folder wait meanwhile."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a network's file system that knows no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def merge_rows(path: Path, rows: Iterable[Row]) -> list[Row]:
    """Adds rows to a results.json, each in the place of the one of the same protocol, encoder, labels and `setting`.

    The file is replaced in one step: a reader, or a crash, finds either the old rows or the new ones. Processes that
    add rows at the same time lose none.

    Returns:
        All rows of the file.

    Raises:
        DataError: the file that is there is no list of rows.
        TrainingError: the file cannot be written.
    """
    with _alone(path.parent):
        merged = {(*(row.get(key) for key in IDENTITY), setting(row)): row for row in (*read_rows(path), *rows)}
        text = json.dumps(list(merged.values()), indent=2) + "\n"
        write_atomically(path, text.encode(), cure="free space there, then evaluate again; the rows before it are kept")
    return list(merged.values())
