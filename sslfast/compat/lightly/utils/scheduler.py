"""lightly's schedule of the momentum (`lightly.utils.scheduler`)."""

from __future__ import annotations

from math import cos, pi

from sslfast.errors import UserError
from sslfast.train.schedules import cosine

__all__ = ["cosine_schedule"]


def cosine_schedule(
    step: int, max_steps: int, start_value: float, end_value: float, period: int | None = None
) -> float:
    """The value at `step` on half a cosine from `start_value` to `end_value`, or on a whole one every `period` steps.

    Args:
        step: from 0; the end is reached at max_steps - 1 and kept.
        max_steps: steps of the training.
        start_value, end_value: values at the beginning and at the end (in the middle of a period).
        period: steps of a whole cosine; half a cosine over the training when None.

    Raises:
        UserError: a negative step, or a period below 1.
    """
    if step < 0 or (period is not None and period < 1):
        raise UserError(f"cosine_schedule: step is {step} and period {period}; step counts from 0, a period from 1")
    if period is not None:
        remaining = (cos(2 * pi * step / period) + 1) / 2
    else:
        remaining = cosine(step, max_steps - 1) if max_steps > 1 else 0.0
    return end_value - (end_value - start_value) * remaining
