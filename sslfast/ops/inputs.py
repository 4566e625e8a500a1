"""What ops and losses check about sizes and classes before the kernels do."""

from __future__ import annotations

import torch
from torch import Tensor

from sslfast.errors import UserError

WHOLE = (int, torch.SymInt)


def pair(user: str, name: str, value: object) -> tuple[int, int]:
    """Two whole numbers as they are, or one twice.

    Raises:
        UserError: anything else.
    """
    numbers = (value, value) if isinstance(value, WHOLE) else value
    if (
        not isinstance(numbers, (tuple, list))
        or len(numbers) != 2
        or not all(isinstance(n, WHOLE) and not isinstance(n, bool) for n in numbers)
    ):
        raise UserError(f"{user}: {name} is {value!r}; give a whole number, or two such as (12, 16)")
    return numbers[0], numbers[1]


def check_classes(user: str, name: str, classes: Tensor, count: int, cure: str) -> None:
    """Raises UserError unless all classes are in [0, count); those on a GPU are not looked at, the host would wait.

    Nor are those within torch.compile, whose graph cannot depend on them.
    """
    if classes.device.type != "cpu" or torch.compiler.is_compiling() or classes.numel() == 0:
        return
    least, most = (int(end) for end in classes.aminmax())
    if least < 0 or most >= count:
        raise UserError(f"{user}: {name} holds classes from {least} to {most}, and they are 0 to {count - 1}; {cure}")
