"""What contrastive losses ask of raw embeddings on a CPU, each in one op: rows of length 1, the contrast of two views.

Elsewhere torch's own ops do the same step by step (`sslfast.ops.nt_xent`); within torch.compile too, which fuses them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sslfast.ops.checks import (
    at_least_float32,
    check_reverse_mode,
    refuse_second_derivative,
)

SHORTEST = 1e-12


def in_one_op(rows: Tensor) -> bool:
    """Whether there is an op for several steps at once: on a CPU, outside of torch.compile."""
    return rows.is_cpu and not torch.compiler.is_compiling()


def unit_rows(z: Tensor) -> Tensor:
    """Rows of z (B, d) scaled to length 1, in float32 or float64; rows without a component above 1e-12 become 0.

    Raises:
        UserError: a second or forward-mode derivative, on a CPU.
    """
    if in_one_op(z):
        check_reverse_mode("The scaling to length 1", z)
        if z.requires_grad and torch.is_grad_enabled():
            return _UnitRows.apply(z)
        return torch.ops.sslfast.unit_rows_forward(z.detach().contiguous())[0]
    # Dividing by the largest component first keeps the squares of the norm in range. It is a constant for the gradient,
    # because the result does not depend on it.
    z = at_least_float32(z)
    largest = z.detach().abs().amax(1, keepdim=True)
    scaled = z * torch.where(largest <= SHORTEST, torch.zeros_like(largest), 1 / largest)
    return scaled / torch.linalg.vector_norm(scaled, dim=1, keepdim=True).clamp_min(0.5)  # 1 or more, or 0


class _UnitRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        unit, inverse = torch.ops.sslfast.unit_rows_forward(rows.contiguous())
        ctx.save_for_backward(unit, inverse)
        ctx.dtype = rows.dtype
        return unit

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor | None:
        grad_rows = torch.ops.sslfast.unit_rows_backward(grad.contiguous(), *ctx.saved_tensors)
        return refuse_second_derivative(grad_rows.to(ctx.dtype))[0]


def contrast_in_one_op(
    first: Tensor,
    second: Tensor,
    others: Tensor | None,
    temperature: float | Tensor,
    number: float,
    *,
    views: bool = False,
    both_ways: bool = False,
    entropy: bool = True,
    more: bool = False,
) -> tuple[Tensor, ...]:
    """Cross entropy of raw embeddings or what it is made from, where `in_one_op` says that there is an op for it.

    Args:
        first: (B, d) float32, float64, float16 or bfloat16, of any length.
        second: (B, d) same dtype: the positive of row i is row i.
        others: (M, d) negatives of all rows, of length at most 1, in the results' dtype; None for those of the batch.
        temperature: above 0; a tensor that requires a gradient gets one.
        number: the same as a number.
        views: the negatives of each row of both are all others of both but its positive; N is 2B.
        both_ways: `second` is contrasted with `first` as well; N is 2B, else B.
        entropy: return the loss, the mean of log(1 + exp(negatives - positives / temperature)), and not these.
        more: return the last three as well.

    Returns:
        The loss, a scalar; or (N,) similarities to the positives and (N,) log-sum-exp over the negatives, -inf without
        negatives; float32 (float64 for float64). And without gradient (N,) similarities to the positives, (N,) the
        highest to a negative, and (2B, d) the rows of length 1.

    Raises:
        UserError: a second or forward-mode derivative.
    """
    learnt = temperature if isinstance(temperature, Tensor) else None
    check_reverse_mode("The log-sum-exp of negatives", first, second, others, learnt)
    return _Contrast.apply(first, second, others, learnt, (number, views, both_ways), entropy, more)


class _Contrast(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        first: Tensor,
        second: Tensor,
        others: Tensor | None,
        temperature: Tensor | None,
        options: tuple[float, bool, bool],
        entropy: bool,
        more: bool,
    ) -> tuple[Tensor, ...]:
        others = None if others is None else others.contiguous()
        loss, positives, negatives, largest, unit, inverse = torch.ops.sslfast.nt_xent_contrast_forward(
            first.contiguous(), second.contiguous(), others, *options, more
        )
        ctx.save_for_backward(unit, inverse, positives, negatives, others, temperature)
        ctx.options, ctx.entropy, ctx.dtype = options, entropy, first.dtype
        results = (loss,) if entropy else (positives, negatives)
        if not more:
            return results
        found = positives.clone(), largest, unit
        ctx.mark_non_differentiable(*found)
        return *results, *found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        unit, inverse, positives, negatives, others, temperature = ctx.saved_tensors
        _, by_second, by_others, by_temperature, *_ = ctx.needs_input_grad
        given = (grads[0], None, None) if ctx.entropy else (None, grads[0].contiguous(), grads[1].contiguous())
        first, second, other, scale = torch.ops.sslfast.nt_xent_contrast_backward(
            *given, unit, inverse, positives, negatives, others, *ctx.options, by_second, by_others
        )
        results = (
            first.to(ctx.dtype),
            second.to(ctx.dtype) if by_second else None,
            other if by_others else None,
            # Similarities are divided by the temperature: the gradient by it is that by a common factor of theirs.
            (scale / -ctx.options[0]).to(temperature).view_as(temperature) if by_temperature else None,
        )
        return *refuse_second_derivative(*results), None, None, None


@torch.library.register_fake("sslfast::unit_rows_forward")
def _(rows: Tensor) -> tuple[Tensor, Tensor]:
    real = _real(rows)
    return rows.new_empty(rows.shape, dtype=real), rows.new_empty(rows.shape[:1], dtype=real)


@torch.library.register_fake("sslfast::unit_rows_backward")
def _(grad: Tensor, unit: Tensor, inverse: Tensor) -> Tensor:
    return unit.new_empty(unit.shape)


@torch.library.register_fake("sslfast::nt_xent_contrast_forward")
def _(
    first: Tensor,
    second: Tensor,
    others: Tensor | None,
    temperature: float,
    views: bool,
    both_ways: bool,
    largest: bool,
) -> tuple[Tensor, ...]:
    batch, depth = first.shape
    count = 2 * batch if views or both_ways else batch
    shapes = (), (count,), (count,), (count if largest else 0,), (2 * batch, depth), (2 * batch,)
    return tuple(first.new_empty(shape, dtype=_real(first)) for shape in shapes)


@torch.library.register_fake("sslfast::nt_xent_contrast_backward")
def _(
    grad_loss: Tensor | None,
    grad_positives: Tensor | None,
    grad_negatives: Tensor | None,
    unit: Tensor,
    inverse: Tensor,
    positives: Tensor,
    negatives: Tensor,
    others: Tensor | None,
    temperature: float,
    views: bool,
    both_ways: bool,
    second_gradient: bool,
    others_gradient: bool,
) -> tuple[Tensor, ...]:
    batch, depth = unit.shape[0] // 2, unit.shape[1]
    second_rows = batch if second_gradient or views or both_ways else 0
    other_rows = others.shape[0] if others is not None and others_gradient else 0
    shapes = (batch, depth), (second_rows, depth), (other_rows, depth), (1,)
    return tuple(unit.new_empty(shape) for shape in shapes)


def _real(rows: Tensor) -> torch.dtype:
    return torch.float64 if rows.dtype == torch.float64 else torch.float32
