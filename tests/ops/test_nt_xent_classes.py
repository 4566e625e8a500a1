"""Log-sum-exp and largest similarities by class: gradients, NaN, equal bits, bad input."""

import pytest
import torch

from sslfast.ops.nt_xent import negatives_logsumexp, unit_rows
from sslfast.ops.nt_xent_classes import logsumexp_and_largest_by_class
from sslfast.ops.reference import nt_xent as reference


def inputs(own_keys=True, dtype=torch.float32):
    """queries, keys, excluded, classes, key_classes; columns -1 and M exclude nothing."""
    generator = torch.Generator().manual_seed(0)
    queries, keys = (unit_rows(torch.randn(n, 9, generator=generator)).to(dtype) for n in (70, 200))
    classes, key_classes = (torch.randint(6, (n,), generator=generator, dtype=torch.int32) for n in (70, 200))
    if own_keys:
        return queries, None, torch.arange(70)[:, None], classes, None
    return queries, keys, torch.randint(-1, 201, (70, 2), generator=generator), classes, key_classes


@pytest.mark.parametrize("own_keys", [True, False])
@pytest.mark.parametrize("temperature", [0.5, 0.01])
def test_the_gradient_is_that_of_the_log_sum_exp(own_keys, temperature):
    queries, keys, excluded, classes, key_classes = inputs(own_keys)
    leaves = [rows.requires_grad_() for rows in (queries, keys) if rows is not None]
    lse, *largest = logsumexp_and_largest_by_class(queries, keys, excluded, classes, key_classes, temperature)
    plain = negatives_logsumexp(queries, keys, excluded, temperature)
    assert torch.equal(lse, plain) and not any(similarity.requires_grad for similarity in largest)
    weights = torch.linspace(0, 1, 70)
    ours, theirs = (torch.autograd.grad(value, leaves, weights) for value in (lse, plain))
    assert all(map(torch.equal, ours, theirs))


def test_nan_is_passed_over():
    queries, _, excluded, classes, _ = inputs()
    queries[3] = torch.nan
    _, *largest = logsumexp_and_largest_by_class(queries, None, excluded, classes, None, 0.5)
    others = torch.where(torch.arange(70)[:, None] == 3, 0, queries)
    _, *wanted = reference.logsumexp_and_largest_by_class(
        others, others, torch.cat([excluded, torch.full_like(excluded, 3)], 1), classes, classes, 0.5
    )
    for found, expected in zip(largest, wanted, strict=True):
        assert found[3] == -torch.inf
        torch.testing.assert_close(found[torch.arange(70) != 3], expected[torch.arange(70) != 3], rtol=0, atol=1e-6)


@pytest.mark.parametrize("own_keys", [True, False])
def test_same_bits_with_any_number_of_threads(own_keys):
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append(logsumexp_and_largest_by_class(*inputs(own_keys), 0.5))
    finally:
        torch.set_num_threads(threads)
    assert all(all(map(torch.equal, result, results[0])) for result in results[1:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": torch.ones(3).long()}, "classes must be int32"),
        ({"classes": torch.ones(4).int()}, "shape"),
        ({"classes": torch.ones(6).int()[::2]}, "contiguous"),
        ({"key_classes": None}, "only there"),
        ({"keys": None}, "only there"),
        ({"key_classes": torch.ones(4).int()}, "shape"),
        ({"key_classes": torch.ones(5)}, "key_classes must be int32"),
        ({"excluded": torch.ones(4, 1).long()}, "shape"),
        ({"temperature": 0.0}, "above 0"),
    ],
)
def test_bad_input(change, message):
    arguments = {"queries": torch.ones(3, 4), "keys": torch.ones(5, 4), "excluded": torch.ones(3, 1).long()}
    arguments |= {"classes": torch.ones(3).int(), "key_classes": torch.ones(5).int()}
    arguments |= {"temperature": 0.5, "tf32": False} | change
    with pytest.raises(RuntimeError, match=message):
        torch.ops.sslfast.nt_xent_classes_forward(**arguments)
