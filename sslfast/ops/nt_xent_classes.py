"""What supervised contrastive learning asks of similarities: their log-sum-exp, and the largest of them by class."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sslfast.ops.nt_xent import nt_xent_backward, prepared


def logsumexp_and_largest_by_class(
    queries: Tensor,
    keys: Tensor | None,
    excluded: Tensor,
    classes: Tensor,
    key_classes: Tensor | None,
    temperature: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """`negatives_logsumexp` over all keys that are not excluded, and the highest similarities among these, in one pass.

    Args:
        queries, keys, excluded, temperature: as of `negatives_logsumexp`.
        classes: (N,) int32 of the queries.
        key_classes: (M,) int32; None where the queries are their own keys.

    Returns:
        (N,) log-sum-exp, as of `negatives_logsumexp`, differentiable by queries and keys.
        (N,) highest similarity queries[i] . keys[j], and (N,) the highest of a key of another class than the query's;
        not divided by the temperature and not differentiable; NaN is passed over, -inf for a row without such keys.

    Raises:
        RuntimeError: a wrong dtype, shape or device, or a temperature that is not above 0.
        UserError: a second or forward-mode derivative.
    """
    queries, keys, excluded, tf32 = prepared(queries, keys, excluded)
    return torch.ops.sslfast.nt_xent_classes_forward(queries, keys, excluded, classes, key_classes, temperature, tf32)


@torch.library.register_fake("sslfast::nt_xent_classes_forward")
def _(
    queries: Tensor,
    keys: Tensor | None,
    excluded: Tensor,
    classes: Tensor,
    key_classes: Tensor | None,
    temperature: float,
    tf32: bool,
) -> tuple[Tensor, ...]:
    real = torch.float64 if queries.dtype == torch.float64 else torch.float32
    return tuple(queries.new_empty((queries.shape[0],), dtype=real) for _ in range(3))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    queries, keys, excluded, _, _, ctx.temperature, ctx.tf32 = inputs
    lse, *largest = output
    ctx.mark_non_differentiable(*largest)
    ctx.save_for_backward(queries, keys, excluded, lse)


def _backward(ctx: Any, grad_lse: Tensor, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    return *nt_xent_backward(ctx, grad_lse), None


torch.library.register_autograd("sslfast::nt_xent_classes_forward", _backward, setup_context=_setup)
