"""A random network with fixed weights: the floor of a table."""

from __future__ import annotations

from torch import Tensor, nn

from sslfast.evaluate.features import Encoder, apply
from sslfast.evaluate.results import Scores, accuracy, ranks
from sslfast.evaluate.training import seeded


def evaluate_untrained(encoder: Encoder, subset: Tensor, seed: int = 0) -> Scores:
    """One dense layer with its initial weights on the flattened pixels; nothing is trained, so it finds chance.

    Args:
        encoder: gives the images; its backbone is not used.
        subset: (n,) int64 positions of the training images, not used either.
        seed: of the weights.
    """
    one = encoder.test.select(slice(0, 1))
    width = apply(lambda images: images.flatten(1), one, encoder.view, encoder.device).shape[1]
    with seeded(seed):
        layer = nn.Linear(width, encoder.classes).to(encoder.device)
    scores = apply(lambda images: layer(images.flatten(1)), encoder.test, encoder.view, encoder.device)
    return accuracy(ranks(scores, encoder.test_labels))
