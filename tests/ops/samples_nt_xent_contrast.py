"""Samples of `nt_xent_contrast_forward` and `nt_xent_contrast_backward`, and of `unit_rows` in both directions."""

import torch
from contract import Contract, Sample

from sslfast.ops.reference.nt_xent import negatives_logsumexp_and_largest, unit_rows

# name, batch, depth, others (0: none), temperature, dtype, views, both_ways, largest
SHAPES = [
    ("views", 5, 3, 0, 0.5, torch.float32, True, False, True),
    ("ways", 70, 33, 0, 0.2, torch.float32, False, True, True),
    ("one_view", 1, 3, 0, 0.5, torch.float32, True, False, False),
    ("one_way", 1, 2, 0, 0.02, torch.float64, False, True, False),
    ("odd_views", 70, 33, 0, 0.03, torch.float32, True, False, False),
    ("cold_views", 130, 17, 0, 0.02, torch.float16, True, False, True),
    ("double_views", 33, 20, 0, 0.1, torch.float64, True, False, True),
    ("queries", 140, 64, 0, 0.1, torch.float32, False, False, True),
    ("half_queries", 9, 65, 0, 0.5, torch.bfloat16, False, False, False),
    ("cold_ways", 300, 9, 0, 0.02, torch.float32, False, True, False),
    ("queue", 7, 12, 300, 0.07, torch.float32, False, False, True),
    ("long_queue", 200, 5, 2500, 0.5, torch.float64, False, False, False),
    ("square_queue", 100, 40, 90, 0.02, torch.bfloat16, False, False, False),
    ("large_views", 1100, 24, 0, 0.1, torch.float32, True, False, False),
]


def forward_samples():
    generator = torch.Generator().manual_seed(0)
    samples = []
    for name, batch, depth, count, temperature, dtype, views, both_ways, largest in SHAPES:
        first, second = torch.randn(2, batch, depth, generator=generator, dtype=torch.float64).to(dtype)
        others = None
        if count:
            others = unit_rows(torch.randn(count, depth, generator=generator, dtype=torch.float64))
            others = others.to(torch.promote_types(dtype, torch.float32))
        samples.append(Sample(name, (first, second, others, temperature, views, both_ways, largest)))
    return samples


def backward_samples():
    generator = torch.Generator().manual_seed(1)
    samples = []
    for sample in forward_samples():
        first, _, others, temperature, views, both_ways, _ = sample.args
        real = torch.promote_types(first.dtype, torch.float32)
        _, positives, negatives, _, *rows = (result.to(real) for result in forward_reference(*sample.args))
        grads = torch.rand(2, len(negatives), generator=generator, dtype=real) / len(negatives)
        for wanted, given in (
            (False, (None, *grads)),
            (True, (torch.rand((), generator=generator).to(real), None, None)),
        ):
            rest = others, temperature, views, both_ways, wanted, wanted
            name = f"{sample.name}{'_loss' if wanted else ''}"
            samples.append(Sample(name, (*given, *rows, positives, negatives, *rest)))
    return samples


def contrasted(u, v, others, temperature, views, both_ways):
    """Positives, log-sum-exp and largest similarity of the negatives, of rows of length 1."""
    own = torch.arange(len(u))
    positives = (u * v).sum(1)
    if others is not None:
        return positives, *negatives_logsumexp_and_largest(u, others, own[:, None][:, :0], temperature)
    if views:
        own = torch.arange(2 * len(u))
        excluded = torch.stack([own, own.roll(len(u))], 1)
        return positives.repeat(2), *negatives_logsumexp_and_largest(torch.cat([u, v]), None, excluded, temperature)
    there = negatives_logsumexp_and_largest(u, v, own[:, None], temperature)
    if not both_ways:
        return positives, *there
    back = negatives_logsumexp_and_largest(v, u, own[:, None], temperature)
    return positives.repeat(2), *(torch.cat(ways) for ways in zip(there, back, strict=True))


def forward_reference(first, second, others, temperature, views, both_ways, largest):
    rows = torch.cat([first, second]).double()
    unit = unit_rows(rows)
    others = None if others is None else others.double()
    positives, negatives, most = contrasted(*unit.chunk(2), others, temperature, views, both_ways)
    loss = cross_entropy(positives, negatives, temperature)
    return loss, positives, negatives, most if largest else most[:0], unit, 1 / rows.norm(dim=1)


def cross_entropy(positives, negatives, temperature):
    """Of the positive among all logits, row by row."""
    logits = torch.stack([positives / temperature, negatives], 1)
    return torch.nn.functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))


def backward_reference(
    grad_loss,
    grad_positives,
    grad_negatives,
    unit,
    inverse,
    given,
    lse,
    others,
    temperature,
    views,
    both_ways,
    second,
    third,
):
    unit, scale = unit.double().requires_grad_(), torch.ones(1, dtype=torch.float64, requires_grad=True)
    keys = None if others is None else others.double().requires_grad_()
    u, v = unit.chunk(2)
    u, v = (u * scale.sqrt(), v * scale.sqrt()) if views else (u * scale, v)
    positives, negatives, _ = contrasted(u, v, keys, temperature, views, both_ways)
    if grad_loss is not None:
        value = grad_loss * cross_entropy(positives, negatives, temperature)
    else:
        value = (grad_positives * positives).sum() + (
            grad_negatives * torch.where(negatives.isinf(), 0, negatives)
        ).sum()
    leaves = (unit, scale) if keys is None else (unit, scale, keys)
    grad, by_scale, *by_keys = torch.autograd.grad(value, leaves)
    grad = through_the_length(grad, unit.detach(), inverse.double())
    nothing = unit.new_empty(0, unit.shape[1])
    first, other = grad.chunk(2)
    by_others = by_keys[0] if third and keys is not None else nothing
    return first, other if second or views or both_ways else nothing, by_others, by_scale


def through_the_length(grad, unit, inverse):
    return (grad - unit * (grad * unit).sum(1, keepdim=True)) * inverse[:, None]


def rows_samples():
    generator = torch.Generator().manual_seed(2)
    samples = []
    dtypes = {"single": torch.float32, "double": torch.float64, "half": torch.float16, "bfloat16": torch.bfloat16}
    for name, dtype in dtypes.items():
        for count, depth in ((7, 3), (300, 129), (1, 1)):
            rows = torch.randn(count, depth, generator=generator, dtype=torch.float64).to(dtype)
            rows[count // 2] = 0
            samples.append(Sample(f"{name}_{count}", (rows,)))
    return samples


def rows_reference(rows):
    length = rows.double().norm(dim=1)
    return unit_rows(rows.double()), torch.where(length == 0, 0, 1 / length)


def rows_backward_samples():
    generator = torch.Generator().manual_seed(3)
    samples = []
    for sample in rows_samples():
        real = torch.promote_types(sample.args[0].dtype, torch.float32)
        unit, inverse = (result.to(real) for result in rows_reference(*sample.args))
        samples.append(Sample(sample.name, (torch.randn(unit.shape, generator=generator, dtype=real), unit, inverse)))
    return samples


def rows_backward_reference(grad, unit, inverse):
    return through_the_length(grad.double(), unit.double(), inverse.double())


FORWARD = Contract("nt_xent_contrast_forward", forward_reference, forward_samples, atol=2e-5)
BACKWARD = Contract("nt_xent_contrast_backward", backward_reference, backward_samples, atol=1e-4)
ROWS = Contract("unit_rows_forward", rows_reference, rows_samples, atol=2e-5)
ROWS_BACKWARD = Contract("unit_rows_backward", rows_backward_reference, rows_backward_samples, atol=1e-4)
