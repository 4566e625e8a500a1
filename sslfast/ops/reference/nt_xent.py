"""nt_xent with the whole matrix of similarities, as the paper writes it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def nt_xent(z0: Tensor, z1: Tensor, temperature: float = 0.5) -> Tensor:
    """Same arguments and result as `sslfast.ops.nt_xent`, in the embeddings' own dtype."""
    unit = unit_rows(torch.cat([z0, z1]))
    own = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    logits = (unit @ unit.T / temperature).masked_fill(own, -torch.inf)
    other_view = torch.arange(len(unit), device=unit.device).roll(len(z0))
    return functional.cross_entropy(logits, other_view)


def negatives_logsumexp(queries: Tensor, keys: Tensor | None, excluded: Tensor, temperature: float) -> Tensor:
    """Same arguments and result as `sslfast.ops.nt_xent.negatives_logsumexp`."""
    return (negative_similarities(queries, keys, excluded) / temperature).logsumexp(1)


def negatives_logsumexp_and_largest(
    queries: Tensor, keys: Tensor | None, excluded: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Same arguments and result as `sslfast.ops.nt_xent.negatives_logsumexp_and_largest`."""
    similarities = negative_similarities(queries, keys, excluded)
    return (similarities / temperature).logsumexp(1), similarities.detach().amax(1)


def logsumexp_and_largest_by_class(
    queries: Tensor,
    keys: Tensor | None,
    excluded: Tensor,
    classes: Tensor,
    key_classes: Tensor | None,
    temperature: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Same arguments and results as `sslfast.ops.nt_xent_classes.logsumexp_and_largest_by_class`."""
    similarities = negative_similarities(queries, keys, excluded)
    same = classes[:, None] == (classes if key_classes is None else key_classes)
    largest = similarities.detach()
    return (similarities / temperature).logsumexp(1), largest.amax(1), largest.masked_fill(same, -torch.inf).amax(1)


def negative_similarities(queries: Tensor, keys: Tensor | None, excluded: Tensor) -> Tensor:
    """(N, M) similarities of queries (N, d) and keys (M, d), -inf for excluded columns."""
    keys = queries if keys is None else keys
    columns = torch.arange(len(keys), device=keys.device)
    negative = (columns[:, None] != excluded[:, None, :]).all(2)
    return (queries @ keys.T).masked_fill(~negative, -torch.inf)


def unit_rows(z: Tensor) -> Tensor:
    """Rows scaled to length 1; zero rows stay zero, with gradient zero."""
    norm = torch.linalg.vector_norm(z, dim=1, keepdim=True)
    return z / torch.where(norm == 0, torch.inf, norm)
