"""What supervised contrastive learning asks of similarities: their log-sum-exp, and the largest of them by class.

The CPU has a kernel of its own (`torch.ops.sslfast.nt_xent_classes_forward`); elsewhere the largest ones take products
of their own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from sslfast.ops.checks import check_reverse_mode
from sslfast.ops.nt_xent import negatives_logsumexp, nt_xent_backward

TILE_BYTES = 1 << 26


def logsumexp_and_largest_by_class(
    queries: Tensor,
    keys: Tensor | None,
    excluded: Tensor,
    classes: Tensor,
    key_classes: Tensor | None,
    temperature: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """`negatives_logsumexp` over all keys that are not excluded, and the highest similarities among these.

    On the CPU they come from one pass. A GPU multiplies a second time, a tile of at most 64 MB at a time.

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
    """
    check_reverse_mode("The log-sum-exp of negatives", queries, keys)
    if queries.device.type == "cpu":
        keys = None if keys is None else keys.contiguous()
        return torch.ops.sslfast.nt_xent_classes_forward(
            queries.contiguous(), keys, excluded.contiguous(), classes, key_classes, temperature
        )
    lse = negatives_logsumexp(queries, keys, excluded, temperature)
    if keys is None or key_classes is None:
        keys, key_classes = queries, classes
    return lse, *largest_by_products(queries, keys, excluded, classes, key_classes)


@torch.no_grad()
def largest_by_products(
    queries: Tensor, keys: Tensor, excluded: Tensor, classes: Tensor, key_classes: Tensor, tile_bytes: int = TILE_BYTES
) -> tuple[Tensor, Tensor]:
    """The highest similarities by torch's products, on any device, without a matrix of more than about `tile_bytes`."""
    rows = max(1, tile_bytes // (queries.element_size() * len(keys)))
    largest, largest_other = [], []
    with torch.autocast(queries.device.type, enabled=False):
        for part, columns, own in zip(queries.split(rows), excluded.split(rows), classes.split(rows), strict=True):
            similarities = functional.pad(part @ keys.T, (0, 1))  # the last column takes what excludes nothing
            inside = (columns >= 0) & (columns < len(keys))
            similarities.scatter_(1, torch.where(inside, columns, len(keys)), -torch.inf)
            similarities = similarities[:, :-1].nan_to_num(-torch.inf, torch.inf, -torch.inf)
            largest.append(similarities.amax(1))
            largest_other.append(similarities.masked_fill_(own[:, None] == key_classes, -torch.inf).amax(1))
    return torch.cat(largest), torch.cat(largest_other)


@torch.library.register_fake("sslfast::nt_xent_classes_forward")
def _(
    queries: Tensor,
    keys: Tensor | None,
    excluded: Tensor,
    classes: Tensor,
    key_classes: Tensor | None,
    temperature: float,
) -> tuple[Tensor, ...]:
    real = torch.float64 if queries.dtype == torch.float64 else torch.float32
    return tuple(queries.new_empty((queries.shape[0],), dtype=real) for _ in range(3))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    queries, keys, excluded, _, _, ctx.temperature = inputs
    lse, *largest = output
    ctx.tf32 = False
    ctx.mark_non_differentiable(*largest)
    ctx.save_for_backward(queries, keys, excluded, lse)


torch.library.register_autograd("sslfast::nt_xent_classes_forward", nt_xent_backward, setup_context=_setup)
