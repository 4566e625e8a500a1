"""Samples of `nt_xent_forward` and `nt_xent_backward`."""

import torch
from contract import Contract, Sample

from sslfast.ops.reference.nt_xent import (
    logsumexp_and_largest_by_class,
    negatives_logsumexp,
    negatives_logsumexp_and_largest,
    unit_rows,
)


def inputs(rows, columns, depth, temperature, dtype, generator):
    """queries, keys (None for as many columns as 0), excluded, temperature."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    queries = unit_rows(torch.randn(rows, depth, generator=generator, dtype=wide)).to(dtype)
    if columns == 0:
        own = torch.arange(rows)
        return queries, None, torch.stack([own, own.roll(rows // 2)], 1), temperature
    keys = unit_rows(torch.randn(columns, depth, generator=generator, dtype=wide)).to(dtype)
    return queries, keys, torch.randint(-1, columns + 1, (rows, 3), generator=generator), temperature


# name, rows, columns (0: the queries are their own keys), depth, temperature, dtype, largest, small
SHAPES = [
    ("two", 2, 0, 1, 0.5, torch.float32, True, True),
    ("one", 1, 0, 3, 0.5, torch.float32, False, True),
    ("four", 4, 0, 3, 0.03, torch.float32, False, True),
    ("odd", 70, 0, 33, 0.5, torch.float32, True, True),
    ("cold", 70, 0, 17, 0.02, torch.float32, False, True),
    ("mirrored", 400, 0, 20, 0.5, torch.bfloat16, False, True),
    ("double", 66, 0, 20, 0.1, torch.float64, True, True),
    ("queue", 7, 300, 12, 0.07, torch.float32, True, True),
    ("cold_queue", 67, 9, 5, 0.01, torch.float64, True, True),
    ("half", 70, 0, 40, 0.1, torch.float16, False, True),
    ("bfloat16", 270, 0, 72, 0.2, torch.bfloat16, True, True),
    ("bands", 520, 9, 136, 0.02, torch.bfloat16, False, True),
    ("deep", 66, 0, 200, 0.3, torch.float32, False, True),
    ("large", 2200, 0, 130, 0.2, torch.float32, True, False),
    ("large_queue", 300, 2500, 65, 0.5, torch.float32, False, False),
]


def forward_samples():
    generator = torch.Generator().manual_seed(0)
    samples = [
        Sample(name, (*inputs(rows, columns, depth, temperature, dtype, generator), largest, False), small)
        for name, rows, columns, depth, temperature, dtype, largest, small in SHAPES
    ]
    return samples


def backward_samples():
    generator = torch.Generator().manual_seed(1)
    out = []
    for sample in forward_samples():
        queries, keys, excluded, temperature, _, tf32 = sample.args
        lse = negatives_logsumexp(*wide(queries, keys), excluded, temperature)
        grad = torch.rand(len(queries), generator=generator, dtype=lse.dtype) / len(queries)
        for keys_gradient in (False, True) if keys is not None else (False,):
            args = (grad, queries, keys, excluded, lse, temperature, keys_gradient, tf32)
            out.append(Sample(f"{sample.name}{'_keys' if keys_gradient else ''}", args, sample.small))
    return out


def classes_samples():
    """Every sample of the forward pass with five classes, of which one has no queries."""
    generator = torch.Generator().manual_seed(2)
    out = []
    for sample in forward_samples():
        queries, keys, excluded, temperature, *_ = sample.args
        classes = torch.randint(4, (len(queries),), generator=generator, dtype=torch.int32)
        key_classes = None
        if keys is not None:
            key_classes = torch.randint(5, (len(keys),), generator=generator, dtype=torch.int32)
        out.append(
            Sample(sample.name, (queries, keys, excluded, classes, key_classes, temperature, False), sample.small)
        )
    return out


def wide(queries, keys):
    """Low precision as float32."""
    if queries.dtype in (torch.float32, torch.float64):
        return queries, keys
    return queries.float(), None if keys is None else keys.float()


def forward_reference(queries, keys, excluded, temperature, largest, tf32):
    keys = None if keys is None else keys.double()
    lse, similarity = negatives_logsumexp_and_largest(queries.double(), keys, excluded, temperature)
    return lse, similarity if largest else similarity[:0]


def classes_reference(queries, keys, excluded, classes, key_classes, temperature, tf32):
    keys = None if keys is None else keys.double()
    return logsumexp_and_largest_by_class(queries.double(), keys, excluded, classes, key_classes, temperature)


def backward_reference(grad_lse, queries, keys, excluded, lse, temperature, keys_gradient, tf32):
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
CLASSES = Contract("nt_xent_classes_forward", classes_reference, classes_samples, atol=2e-5, device_atol=2e-5)
