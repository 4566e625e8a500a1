"""pytorch-metric-learning's losses against the library, where it is installed, and against their formulas."""

import pytest
import torch
from losses.common import assert_equal, embeddings, value_and_gradients
from torch.nn import functional
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from sslfast.compat import metric_learning
from sslfast.compat.groups import positive_similarities
from sslfast.errors import UserError

LABELS = {
    "mixed": [3, -1, 3, 7, 7, 3, 3, -1, 7, 3],
    "one alone": [0, 0, 1, 2, 2, 2, 0, 3, 3, 3],
    "pairs": [0, 1, 2, 3, 4, 4, 3, 2, 1, 0],
    "one class": [5] * 10,
    "all different": list(range(10)),
}


def plain_nt_xent(z, labels, temperature):
    """Pair by pair, in float64."""
    unit = functional.normalize(z.double(), dim=1)
    exponentials = (unit @ unit.T / temperature).exp()
    same = labels[:, None] == labels
    terms = []
    for i, p in (same & ~torch.eye(len(z), dtype=torch.bool)).nonzero().tolist():
        terms.append(-(exponentials[i, p] / (exponentials[i, p] + exponentials[i, ~same[i]].sum())).log())
    return torch.stack(terms).mean() if terms else 0 * z.double().sum()


def plain_supcon(z, labels, temperature):
    """Embedding by embedding, in float64, of those that have a positive; 0 in a batch without negatives."""
    unit = functional.normalize(z.double(), dim=1)
    logits = (unit @ unit.T / temperature).masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)
    terms = []
    for i in range(len(z)):
        positives = [j for j in range(len(z)) if j != i and labels[j] == labels[i]]
        if positives and len(positives) < len(z) - 1:
            terms.append((logits[i].logsumexp(0) - logits[i, positives]).mean())
    return torch.stack(terms).mean() if terms else 0 * z.double().sum()


PLAIN = {"NTXentLoss": plain_nt_xent, "SupConLoss": plain_supcon}


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("temperature", [0.05, 0.5])
@pytest.mark.parametrize("name", PLAIN)
def test_equals_the_formula(name, temperature, labels):
    (z,) = embeddings(1, 10)
    labels = torch.tensor(labels)
    loss = getattr(metric_learning, name)(temperature)
    ours = value_and_gradients(lambda z: loss(z, labels), z)
    assert_equal(ours, value_and_gradients(lambda z: PLAIN[name](z, labels, temperature), z))


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("name", PLAIN)
def test_equals_the_library(name, labels):
    theirs = getattr(pytest.importorskip("pytorch_metric_learning.losses"), name)()
    ours = getattr(metric_learning, name)()
    (z,), labels = embeddings(1, 10), torch.tensor(labels)
    assert_equal(
        value_and_gradients(lambda z: ours(z, labels), z), value_and_gradients(lambda z: theirs(z, labels), z), 1e-4
    )


def test_positive_similarities():
    rows = torch.tensor([[1.0, 2], [3, 4], [5, 6], [7, 8]])
    similarities, positive, members = positive_similarities(rows, torch.tensor([9, 2, 9, 9]))
    assert members.tolist() == [[0, 2, 3], [1, -1, -1], [0, 2, 3], [0, 2, 3]]
    assert positive.tolist() == [[False, True, True], [False] * 3, [True, False, True], [True, True, False]]
    assert similarities.tolist() == [[0, 17, 23], [0, 0, 0], [17, 0, 83], [23, 83, 0]]


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that is made."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in pytree.tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.untyped_storage().nbytes() // tensor.element_size())
        return made


@pytest.mark.parametrize("large", [8, 64])
def test_skewed_classes(large):
    """One large class, some smaller ones, and many of one: the same results, and nothing beyond N E numbers."""
    sizes = [large, *range(1, 8), *[1] * 100]
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)).flip(0)
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    (z,) = embeddings(1, len(labels), 4)
    loss = metric_learning.NTXentLoss(0.1)
    with Largest() as most:
        ours = value_and_gradients(lambda z: loss(z, labels), z)
    assert most.elements <= len(labels) * large
    assert_equal(ours, value_and_gradients(lambda z: plain_nt_xent(z, labels, 0.1), z))


@pytest.mark.parametrize(
    ("z", "labels", "message"),
    [
        (torch.ones(3, 4), torch.zeros(2).long(), r"shape \(3,\)"),
        (torch.ones(3, 4), torch.zeros(3), r"\.long\(\)"),
        (torch.ones(3, 4, 1), torch.zeros(3).long(), "2 dimensions"),
        (torch.ones(0, 4), torch.zeros(0).long(), "empty"),
    ],
)
@pytest.mark.parametrize("name", PLAIN)
def test_bad_input(name, z, labels, message):
    loss = getattr(metric_learning, name)()
    with pytest.raises(UserError, match=message):
        loss(z, labels)
    with pytest.raises(UserError, match="above 0"):
        getattr(metric_learning, name)(0)


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_not_taken(name):
    """The library's arguments, where they are not None."""
    make, (z,), labels = getattr(metric_learning, name), embeddings(1, 10), torch.arange(10) % 3
    assert make(0.1, reducer=None, distance=None)(z, labels, None, None, None) == make(0.1)(z, labels)
    with pytest.raises(UserError, match="reducer, distance is not supported"):
        make(reducer=len, distance=len)
    with pytest.raises(UserError, match="indices_tuple is not supported"):
        make()(z, labels, (labels, labels, labels))
    with pytest.raises(UserError, match="ref_emb, ref_labels is not supported"):
        make()(z, labels, ref_emb=z, ref_labels=labels)
