"""nt_xent: the contrastive loss of SimCLR at any batch size, without the N x N matrix of similarities."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, overload

import torch
from torch import Tensor
from torch.nn import functional

from sslfast.ops.checks import (
    check_embeddings,
    check_reverse_mode,
    check_temperature,
    differentiable_once,
    tempered,
)
from sslfast.ops.nt_xent_contrast import contrast_in_one_op, in_one_op, unit_rows


class ContrastMetrics(NamedTuple):
    """How well a contrastive task is solved; scalars of the embeddings' precision, float32 at least, without gradient.

    Attributes:
        accuracy: share of the queries to which the positive is more similar than every negative, in [0, 1]. A tie,
            within the rounding of a similarity, is not solved.
        positive_similarity: mean cosine of query and positive.
        negative_similarity: mean cosine of query and negative; NaN where there is no negative.
    """

    accuracy: Tensor
    positive_similarity: Tensor
    negative_similarity: Tensor


@overload
def nt_xent(z0: Tensor, z1: Tensor, temperature: float | Tensor = ..., metrics: Literal[False] = ...) -> Tensor: ...


@overload
def nt_xent(
    z0: Tensor, z1: Tensor, temperature: float | Tensor = ..., *, metrics: bool
) -> Tensor | tuple[Tensor, ContrastMetrics]: ...


def nt_xent(
    z0: Tensor, z1: Tensor, temperature: float | Tensor = 0.5, metrics: bool = False
) -> Tensor | tuple[Tensor, ContrastMetrics]:
    """Normalised temperature-scaled cross entropy: every embedding finds its other view among all 2B embeddings.

    With u the 2B embeddings scaled to length 1, s(i, j) = u_i . u_j / temperature and p(i) the other view of i,

        loss = mean over i of -log( exp s(i, p(i)) / sum over j != i of exp s(i, j) )

    Low precision is computed with float32 sums. Extra memory is O(B d); the backward pass recomputes the similarities.
    Two runs give equal bits, with any number of threads.

    Args:
        z0: (B, d) float32, float64, float16 or bfloat16, embeddings of the first view, of any length, d of 1 or more.
        z1: (B, d) same dtype and device, embeddings of the second view, in the same order.
        temperature: above 0; a tensor of one element is learnt. It is read on the host: keep it on the CPU, where a
            GPU shall not be waited for.
        metrics: also return how well the task is solved, from the same pass.

    Returns:
        Scalar, float32 (float64 for float64 embeddings), differentiable by z0, z1 and the temperature, once and in
        reverse mode, as all losses with these negatives are; and `ContrastMetrics` where asked for.
        A zero vector (no component above 1e-12) has similarity 0 to everything and gradient 0. A single pair has no
        negatives: loss 0, gradient 0. A NaN or infinite embedding makes the loss NaN.

    Raises:
        UserError: another dtype or number of dimensions, shapes, dtypes or devices that differ, an empty batch, a
            temperature that is not above 0, or a second or forward-mode derivative.

    Source: Chen et al. 2020 (SimCLR), equation 1.
    """
    check_embeddings("nt_xent", {"z0": z0, "z1": z1})
    return of_checked_views(z0, z1, temperature, metrics)


def of_checked_views(
    z0: Tensor, z1: Tensor, temperature: float | Tensor, metrics: bool
) -> Tensor | tuple[Tensor, ContrastMetrics]:
    """`nt_xent` of embeddings that `check_embeddings` has passed."""
    number = check_temperature(temperature)
    if in_one_op(z0):
        loss, *more = contrast_in_one_op(z0, z1, None, temperature, number, views=True, more=metrics)
        return (loss, _metrics_of_views(*more)) if metrics else loss
    positives, negatives, found = contrast_of_views(z0, z1, temperature, number, metrics)
    return with_metrics(contrast(positives, negatives, number), found)


def contrast_of_views(
    z0: Tensor, z1: Tensor, temperature: float | Tensor, number: float, metrics: bool
) -> tuple[Tensor, Tensor, ContrastMetrics | None]:
    """Similarity of each of two stacked views to the other, and the log-sum-exp over all further embeddings.

    Args:
        z0, z1, temperature, metrics: as of `nt_xent`, checked.
        number: the temperature as a number.

    Returns:
        (2B,) and (2B,), -inf for a single pair; and the metrics where asked for.
    """
    if in_one_op(z0):
        positives, negatives, *more = contrast_in_one_op(
            z0, z1, None, temperature, number, views=True, entropy=False, more=metrics
        )
        return positives, negatives, _metrics_of_views(*more) if metrics else None
    unit = tempered(unit_rows(torch.cat([z0, z1])), temperature, both_sides=True)
    positives = pair_similarities(unit)
    return positives, *negatives_and_metrics(unit, None, _itself_and_pair(unit), positives, number, metrics)


def _metrics_of_views(positives: Tensor, largest: Tensor, unit: Tensor) -> ContrastMetrics:
    return metrics_of(unit, unit, _itself_and_pair(unit), positives, largest)


def _itself_and_pair(unit: Tensor) -> Tensor:
    own = torch.arange(len(unit), device=unit.device)
    return torch.stack([own, own.roll(len(unit) // 2)], dim=1)


def pair_similarities(unit: Tensor) -> Tensor:
    """(2B,) similarity of each row to its other view, for two stacked views of length 1, (2B, d)."""
    unit0, unit1 = unit.chunk(2)
    return (unit0 * unit1).sum(1).repeat(2)


def negatives_logsumexp(queries: Tensor, keys: Tensor | None, excluded: Tensor, temperature: float) -> Tensor:
    """Log of the sum of exp(similarity / temperature) over each query's negatives: all keys but the excluded ones.

    float16 and bfloat16 are multiplied as they are, with float32 sums. float32 keeps its accuracy on a GPU, at the cost
    of three products of float16 parts; `torch.backends.cuda.matmul.fp32_precision = "tf32"` makes it one product, of
    factors with the 11 significant bits of TF32. Under `torch.autocast("cuda")` float32 rows are multiplied in its
    dtype, as those of a matrix product are. The CPU computes all of them in float32.

    Args:
        queries: (N, d) float32, float64, float16 or bfloat16, rows of length at most 1.
        keys: (M, d) same dtype; None makes the queries their own keys, so that a pair may be computed once, and needs
            `excluded` to be symmetric (i excludes j where j excludes i).
        excluded: (N, E) int64, columns that are no negatives of the row; numbers outside [0, M) exclude nothing.
        temperature: above 0.

    Returns:
        (N,) float32 (float64 for float64 queries), differentiable by queries and keys, once and in reverse mode; -inf
        for a row without negatives.

    Raises:
        RuntimeError: a wrong dtype, shape or device, or a temperature that is not above 0.
        UserError: a second or forward-mode derivative.
    """
    return _forward(queries, keys, excluded, temperature, largest=False)[0]


def negatives_logsumexp_and_largest(
    queries: Tensor, keys: Tensor | None, excluded: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """`negatives_logsumexp`, and the highest similarity among each query's negatives, in one pass.

    Args:
        queries, keys, excluded, temperature: as of `negatives_logsumexp`.

    Returns:
        (N,) log-sum-exp, as of `negatives_logsumexp`.
        (N,) highest similarity queries[i] . keys[j], not divided by the temperature and not differentiable; NaN is
        passed over, -inf for a row without negatives.

    Raises:
        RuntimeError, UserError: as of `negatives_logsumexp`.
    """
    return _forward(queries, keys, excluded, temperature, largest=True)


def _forward(
    queries: Tensor, keys: Tensor | None, excluded: Tensor, temperature: float, largest: bool
) -> tuple[Tensor, Tensor]:
    queries, keys, excluded, tf32 = prepared(queries, keys, excluded)
    if torch.compiler.is_compiling():
        return torch.ops.sslfast.nt_xent_forward(queries, keys, excluded, temperature, largest, tf32)
    return _LogSumExp.apply(queries, keys, excluded, temperature, largest, tf32)


def prepared(queries: Tensor, keys: Tensor | None, excluded: Tensor) -> tuple[Tensor, Tensor | None, Tensor, bool]:
    """Queries, keys and excluded columns as the kernels take them, and whether products may be those of TF32."""
    check_reverse_mode("The log-sum-exp of negatives", queries, keys)
    dtype = _factor_dtype(queries)
    keys = None if keys is None else keys.to(dtype).contiguous()
    return queries.to(dtype).contiguous(), keys, excluded.contiguous(), _allows_tf32()


def _factor_dtype(queries: Tensor) -> torch.dtype:
    """What the rows of a similarity are rounded to before they are multiplied."""
    if queries.is_cuda and queries.dtype == torch.float32 and torch.is_autocast_enabled("cuda"):
        return torch.get_autocast_dtype("cuda")
    return queries.dtype


def similarity_rounding(queries: Tensor) -> float:
    """Largest difference that rounding makes between similarities of equal pairs of rows of length 1."""
    dtype = _factor_dtype(queries)
    if dtype in (torch.float16, torch.bfloat16):
        return torch.finfo(dtype).eps  # twice half a unit in the last place: of either factor
    if dtype == torch.float32 and queries.is_cuda and _allows_tf32():
        return 2.0**-10
    return 16 * torch.finfo(dtype).eps


@torch.compiler.assume_constant_result
def _allows_tf32() -> bool:
    return bool(torch.backends.cuda.matmul.fp32_precision == "tf32")


def contrast(positives: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Mean of log(1 + exp(negatives - positives / temperature)).

    It equals the cross entropy of the positive among all logits, and stays exact where that is almost 0.

    Args:
        positives: (N,) similarity of each query to its positive, in [-1, 1].
        negatives: (N,) from `negatives_logsumexp`.
        temperature: above 0.
    """
    # Above 50 the logarithm is its argument, within the last place of float64 too.
    return functional.softplus(torch.sub(negatives, positives, alpha=1 / temperature), threshold=50).mean()


def negatives_and_metrics(
    queries: Tensor, keys: Tensor | None, excluded: Tensor, positives: Tensor, temperature: float, metrics: bool
) -> tuple[Tensor, ContrastMetrics | None]:
    """`negatives_logsumexp` of rows of length 1, and where `metrics` asks for them those of finding the positives.

    Args:
        queries, keys, excluded, temperature: as of `negatives_logsumexp`; a row excludes no column twice.
        positives: (N,) similarity of each query to its positive.
        metrics: whether to compute them.
    """
    if not metrics:
        return negatives_logsumexp(queries, keys, excluded, temperature), None
    negatives, largest = negatives_logsumexp_and_largest(queries, keys, excluded, temperature)
    return negatives, metrics_of(queries, queries if keys is None else keys, excluded, positives, largest)


@torch.no_grad()
def metrics_of(queries: Tensor, keys: Tensor, excluded: Tensor, positives: Tensor, largest: Tensor) -> ContrastMetrics:
    """How well queries find their positives, from the highest similarities (N,) to their negatives.

    Args:
        queries, keys, excluded, positives: as of `negatives_and_metrics`; keys (M, d).
        largest: (N,) from `negatives_logsumexp_and_largest`.
    """
    accuracy = (positives > largest + similarity_rounding(queries)).to(queries.dtype).mean()
    # The sum over all pairs is a product of two sums; what is excluded is taken out again.
    total = (queries.sum(0) * keys.sum(0)).sum()
    pairs = len(queries) * torch.full_like(total, len(keys))
    for column in excluded.unbind(1):
        inside = (column >= 0) & (column < len(keys))
        similarities = (queries * keys[column.clamp(0, len(keys) - 1)]).sum(1)
        total = total - torch.where(inside, similarities, 0).sum()
        pairs = pairs - inside.sum()
    mean = torch.where(pairs > 0, total / pairs, torch.nan)
    return ContrastMetrics(accuracy, positives.mean(), mean)


def with_metrics(loss: Tensor, metrics: ContrastMetrics | None) -> Tensor | tuple[Tensor, ContrastMetrics]:
    """The loss, with its metrics where there are some."""
    return loss if metrics is None else (loss, metrics)


@torch.library.register_fake("sslfast::nt_xent_forward")
def _(
    queries: Tensor, keys: Tensor | None, excluded: Tensor, temperature: float, largest: bool, tf32: bool
) -> tuple[Tensor, Tensor]:
    rows = queries.shape[0]
    real = torch.float64 if queries.dtype == torch.float64 else torch.float32
    return queries.new_empty((rows,), dtype=real), queries.new_empty((rows if largest else 0,), dtype=real)


@torch.library.register_fake("sslfast::nt_xent_backward")
def _(
    grad_lse: Tensor,
    queries: Tensor,
    keys: Tensor | None,
    excluded: Tensor,
    lse: Tensor,
    temperature: float,
    keys_gradient: bool,
    tf32: bool,
) -> tuple[Tensor, Tensor]:
    key_rows = keys.shape[0] if keys is not None and keys_gradient else 0
    return queries.new_empty(queries.shape), queries.new_empty((key_rows, queries.shape[1]))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    queries, keys, excluded, ctx.temperature, _, ctx.tf32 = inputs
    lse, largest = output
    ctx.mark_non_differentiable(largest)
    ctx.save_for_backward(queries, keys, excluded, lse)


def nt_xent_backward(ctx: Any, grad_lse: Tensor, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    """The gradient of a log-sum-exp by the first two of the six arguments that it was made from."""
    queries, keys, excluded, lse = ctx.saved_tensors
    keys_gradient = keys is not None and ctx.needs_input_grad[1]
    grad_queries, grad_keys = torch.ops.sslfast.nt_xent_backward(
        grad_lse.contiguous(), queries, keys, excluded, lse, ctx.temperature, keys_gradient, ctx.tf32
    )
    return grad_queries, grad_keys if keys_gradient else None, None, None, None, None


class _LogSumExp(torch.autograd.Function):
    """What is registered below, for a caller whom torch need not lead there: that takes 20 us a call."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        output = torch.ops.sslfast.nt_xent_forward(*inputs)
        _setup(ctx, inputs, output)
        return output

    backward = staticmethod(nt_xent_backward)


torch.library.register_autograd("sslfast::nt_xent_forward", nt_xent_backward, setup_context=_setup)
differentiable_once("sslfast::nt_xent_backward")
