"""Sources: one file for each kind of data set, which knows what is stored where and reads a split into memory."""

from __future__ import annotations

from numbers import Integral
from typing import Protocol

from sslfast.data.batch import ImageBatch
from sslfast.errors import UserError


class Source(Protocol):
    """One split of a data set.

    The constructor takes `(root=None, split="train", *, limit=0, **own options)` and finds the data; `read` loads it.

    Attributes:
        classes: the name of label 0, 1, …; None when the images have no labels.
    """

    classes: list[str] | None

    def __len__(self) -> int:
        """Number of images of the split."""

    def read(self) -> ImageBatch:
        """The whole split in CPU memory; `index` is 0 … N-1, `label` follows `classes`."""


def check_choice(name: str, value: object, valid: tuple[object, ...]) -> None:
    """Raises UserError unless `value` is one of `valid`."""
    if value not in valid:
        raise UserError(f"{name} is {value!r}; it must be one of {', '.join(map(repr, valid))}")


def check_number(name: str, value: object, least: int, most: int | None = None) -> None:
    """Raises UserError unless `value` is a whole number of at least `least`, and of at most `most`."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):  # type: ignore[operator]
        need = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise UserError(f"{name} is {value!r}; it must be a whole number {need}")


def check_seed(value: object) -> None:
    """Raises UserError unless `value` is an integer of 64 bits, with or without a sign."""
    check_number("seed", value, -(2**63), 2**64 - 1)
