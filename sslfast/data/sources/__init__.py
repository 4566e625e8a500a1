"""Sources: one file for each kind of data set, which knows what is stored where and reads a split into memory."""

from __future__ import annotations

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


def check_number(name: str, value: object, least: int) -> None:
    """Raises UserError unless `value` is a whole number of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"{name} is {value!r}; it must be a whole number of at least {least}")
