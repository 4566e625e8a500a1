"""Samples of `nt_xent_forward` and `nt_xent_backward`."""

import torch
from contract import Contract, Sample

from sslfast.ops.reference.nt_xent import negatives_logsumexp, negatives_logsumexp_and_largest, unit_rows


def inputs(rows, columns, depth, temperature, dtype, generator):
    """queries, keys (None for as many columns as 0), excluded, temperature."""
    queries = unit_rows(torch.randn(rows, depth, generator=generator, dtype=dtype))
    if columns == 0:
        own = torch.arange(rows)
        return queries, None, torch.stack([own, own.roll(rows // 2)], 1), temperature
    keys = unit_rows(torch.randn(columns, depth, generator=generator, dtype=dtype))
    return queries, keys, torch.randint(-1, columns + 1, (rows, 3), generator=generator), temperature


# name, rows, columns (0: the queries are their own keys), depth, temperature, dtype, small
SHAPES = [
    ("two", 2, 0, 1, 0.5, torch.float32, True),
    ("four", 4, 0, 3, 0.03, torch.float32, True),
    ("odd", 70, 0, 33, 0.5, torch.float32, True),
    ("cold", 70, 0, 17, 0.02, torch.float32, True),
    ("double", 66, 0, 20, 0.1, torch.float64, True),
    ("queue", 7, 130, 12, 0.07, torch.float32, True),
    ("cold_queue", 67, 9, 5, 0.01, torch.float64, True),
    ("large", 2200, 0, 130, 0.2, torch.float32, False),
    ("large_queue", 300, 2500, 65, 0.5, torch.float32, False),
]


def forward_samples():
    generator = torch.Generator().manual_seed(0)
    samples = [
        Sample(name, (*inputs(rows, columns, depth, temperature, dtype, generator), True), small)
        for name, rows, columns, depth, temperature, dtype, small in SHAPES
    ]
    return [*samples, Sample("without_largest", (*inputs(6, 0, 4, 0.5, torch.float32, generator), False))]


def backward_samples():
    generator = torch.Generator().manual_seed(1)
    out = []
    for sample in forward_samples():
        queries, keys, excluded, temperature, _ = sample.args
        lse = negatives_logsumexp(queries, keys, excluded, temperature)
        grad = torch.rand(len(queries), generator=generator, dtype=queries.dtype) / len(queries)
        for keys_gradient in (False, True) if keys is not None else (False,):
            args = (grad, queries, keys, excluded, lse, temperature, keys_gradient)
            out.append(Sample(f"{sample.name}{'_keys' if keys_gradient else ''}", args, sample.small))
    return out


def forward_reference(queries, keys, excluded, temperature, largest):
    keys = None if keys is None else keys.double()
    lse, similarity = negatives_logsumexp_and_largest(queries.double(), keys, excluded, temperature)
    return lse, similarity if largest else similarity[:0]


def backward_reference(grad_lse, queries, keys, excluded, lse, temperature, keys_gradient):
    queries = queries.double().requires_grad_()
    keys = None if keys is None else keys.double().requires_grad_()
    with torch.enable_grad():
        value = negatives_logsumexp(queries, keys, excluded, temperature)
    value = torch.where(value.isinf(), torch.zeros_like(value), value)  # rows without negatives have no gradient
    inputs = (queries, keys) if keys_gradient else (queries,)
    grads = torch.autograd.grad((value * grad_lse).sum(), inputs)
    return grads if keys_gradient else (*grads, queries.new_empty(0, queries.shape[1]))


FORWARD = Contract("nt_xent_forward", forward_reference, forward_samples, atol=2e-5, device_atol=2e-5)
BACKWARD = Contract("nt_xent_backward", backward_reference, backward_samples, atol=1e-4, device_atol=1e-4)
