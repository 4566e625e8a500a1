"""info_nce: each query finds its positive among given negatives or the positives of the others, at any batch size."""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor

from sslfast.errors import UserError
from sslfast.ops.checks import check_embeddings, check_temperature, tempered
from sslfast.ops.nt_xent import ContrastMetrics, contrast, negatives_and_metrics, unit_rows, with_metrics


@overload
def info_nce(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor | None = ...,
    temperature: float | Tensor = ...,
    symmetric: bool = ...,
    metrics: Literal[False] = ...,
) -> Tensor: ...


@overload
def info_nce(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor | None = ...,
    temperature: float | Tensor = ...,
    symmetric: bool = ...,
    *,
    metrics: Literal[True],
) -> tuple[Tensor, ContrastMetrics]: ...


@overload
def info_nce(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor | None = ...,
    temperature: float | Tensor = ...,
    symmetric: bool = ...,
    *,
    metrics: bool,
) -> Tensor | tuple[Tensor, ContrastMetrics]: ...


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
    own = torch.arange(len(queries), device=queries.device)[:, None]
    if negatives is None:
        query, positive = two_towers(queries, positives, temperature, symmetric)
        return in_batch(query, positive, positive, query if symmetric else None, own, number, metrics)
    check_embeddings("info_nce", {"queries": queries, "negatives": negatives}, same_rows=False)
    if symmetric:
        raise UserError("info_nce: given negatives are those of the queries alone; leave out symmetric=True")
    query = tempered(unit_rows(queries), temperature)
    similarities = (query * unit_rows(positives)).sum(1)
    keys = unit_rows(negatives)
    others, found = negatives_and_metrics(query, keys, own[:, :0], similarities, number, metrics)
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
        if found is not None and back is not None:
            found = ContrastMetrics(*((there + here) / 2 for there, here in zip(found, back, strict=True)))
    return with_metrics(loss, found)
