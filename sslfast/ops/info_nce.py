"""info_nce: each query finds its positive among given negatives or the positives of the others, at any batch size."""

from __future__ import annotations

import torch
from torch import Tensor

from sslfast.errors import UserError
from sslfast.ops.checks import check_embeddings, check_temperature, tempered
from sslfast.ops.nt_xent import ContrastMetrics, contrast, metrics_of, negatives_and_metrics, with_metrics
from sslfast.ops.nt_xent_contrast import contrast_in_one_op, in_one_op, unit_rows


def info_nce(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor | None = None,
    temperature: float | Tensor = 0.1,
    symmetric: bool = False,
    metrics: bool = False,
) -> Tensor | tuple[Tensor, ContrastMetrics]:
    """Contrastive cross entropy of queries and keys, without the matrix of similarities.

    With q, k and n the queries, positives and negatives scaled to length 1,

        loss = mean over i of -log( exp(q_i . k_i / t) / (exp(q_i . k_i / t) + sum over j of exp(q_i . n_j / t)) )

    Without given negatives, those of query i are the positives of the other queries. Then `symmetric` takes the mean
    with the loss in which positives and queries change places, as two towers (images and texts) have it.

    Args:
        queries: (B, d) float32, float64, float16 or bfloat16, of any length.
        positives: (B, d) same dtype and device.
        negatives: (M, d) same dtype and device, shared by all queries, for example a queue.
        temperature: t, above 0; a tensor of one element, for example 1 / logit_scale.exp(), is learnt. It is read on
            the host: keep it on the CPU, where a GPU shall not be waited for.
        symmetric: contrast both ways; not with given negatives.
        metrics: also return how well the task is solved, the mean of both ways, from the same pass.

    Returns:
        Scalar, float32 (float64 for float64 queries), differentiable by all embeddings and the temperature; and
        `ContrastMetrics` where asked for. A single query without given negatives has loss 0.

    Raises:
        UserError: queries, positives or negatives of another shape, dtype or device, `symmetric` with given
            negatives, or a temperature that is not above 0.

    Source: van den Oord et al. 2018 (CPC), equation 4; He et al. 2020 (MoCo), equation 1; Radford et al. 2021 (CLIP),
        figure 3.
    """
    check_embeddings("info_nce", {"queries": queries, "positives": positives})
    number = check_temperature(temperature)
    if negatives is not None:
        check_embeddings("info_nce", {"queries": queries, "negatives": negatives}, same_rows=False)
        if symmetric:
            raise UserError("info_nce: given negatives are those of the queries alone; leave out symmetric=True")
        return against(queries, positives, unit_rows(negatives), temperature, number, metrics)
    if in_one_op(queries):
        return _in_one_op(queries, positives, temperature, number, symmetric, metrics)
    own = torch.arange(len(queries), device=queries.device)[:, None]
    query, positive = two_towers(queries, positives, temperature, symmetric)
    return in_batch(query, positive, positive, query if symmetric else None, own, number, metrics)


def _in_one_op(
    queries: Tensor, positives: Tensor, temperature: float | Tensor, number: float, symmetric: bool, metrics: bool
) -> Tensor | tuple[Tensor, ContrastMetrics]:
    """`info_nce` without given negatives, where `in_one_op` holds."""
    loss, *more = contrast_in_one_op(queries, positives, None, temperature, number, both_ways=symmetric, more=metrics)
    if not metrics:
        return loss
    similarities, largest, unit = more
    own = torch.arange(len(queries))[:, None]
    there, back = unit.chunk(2)
    found = [
        metrics_of(rows, keys, own, positive, most)
        for rows, keys, positive, most in zip(
            (there, back), (back, there), similarities.split(len(queries)), largest.split(len(queries)), strict=False
        )
    ]
    return loss, _mean(*found)


def _mean(*found: ContrastMetrics) -> ContrastMetrics:
    return ContrastMetrics(*(sum(ways[1:], ways[0]) / len(found) for ways in zip(*found, strict=True)))


def against(
    queries: Tensor, positives: Tensor, negatives: Tensor, temperature: float | Tensor, number: float, metrics: bool
) -> Tensor | tuple[Tensor, ContrastMetrics]:
    """`info_nce` with given negatives (M, d) of length 1, in float32 or float64; the rest of it checked."""
    if in_one_op(queries):
        loss, *more = contrast_in_one_op(queries, positives, negatives, temperature, number, more=metrics)
        if not metrics:
            return loss
        similarities, largest, unit = more
        nothing = torch.empty(len(queries), 0, dtype=torch.long)
        return loss, metrics_of(unit[: len(queries)], negatives.detach(), nothing, similarities, largest)
    query = tempered(unit_rows(queries), temperature)
    similarities = (query * unit_rows(positives)).sum(1)
    nothing = torch.empty(len(queries), 0, dtype=torch.long, device=queries.device)
    others, found = negatives_and_metrics(query, negatives, nothing, similarities, number, metrics)
    return with_metrics(contrast(similarities, others, number), found)


def two_towers(
    queries: Tensor, positives: Tensor, temperature: float | Tensor, symmetric: bool
) -> tuple[Tensor, Tensor]:
    """Queries and positives of length 1, of which both or the queries alone carry the gradient by the temperature."""
    query = tempered(unit_rows(queries), temperature, symmetric)
    positive = unit_rows(positives)
    return query, tempered(positive, temperature, symmetric) if symmetric else positive


def in_batch(
    query: Tensor,
    positive: Tensor,
    keys: Tensor,
    back_keys: Tensor | None,
    own: Tensor,
    temperature: float,
    metrics: bool,
) -> Tensor | tuple[Tensor, ContrastMetrics]:
    """The loss of rows of length 1 whose negatives are the other rows of a batch.

    Args:
        query, positive: (B, d).
        keys: (M, d) the positives of all queries, on all ranks.
        back_keys: (M, d) the queries of all positives, to contrast both ways; None for one way.
        own: (B, 1) the row of keys that belongs to each query.
        temperature: above 0.
        metrics: whether to return them.
    """
    similarities = (query * positive).sum(1)
    negatives, found = negatives_and_metrics(query, keys, own, similarities, temperature, metrics)
    loss = contrast(similarities, negatives, temperature)
    if back_keys is not None:
        negatives, back = negatives_and_metrics(positive, back_keys, own, similarities, temperature, metrics)
        loss = (loss + contrast(similarities, negatives, temperature)) / 2
        found = None if found is None or back is None else _mean(found, back)
    return with_metrics(loss, found)
