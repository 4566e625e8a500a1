"""Classification of the frozen feature map by a 1x1 convolution and global average pooling."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sslfast.evaluate.features import Encoder, standardised
from sslfast.evaluate.results import Scores, accuracy, ranks
from sslfast.evaluate.training import training_steps


def evaluate_linear_conv(
    encoder: Encoder,
    subset: Tensor,
    seed: int = 0,
    epochs: int | None = None,
    batch_size: int = 256,
    learning_rate: float = 1e-2,
    fewest_steps: int = 1000,
    most_steps: int = 5000,
) -> Scores:
    """A 1x1 convolution from the feature map to the classes, global average pooling and softmax, trained with Adam.

    The average over positions p commutes with the convolution, which is linear and the same at every position:

        1/P sum_p (W f_p + b)  =  W (1/P sum_p f_p) + b

    So the map is averaged first, once, and what is kept of an image is one vector of the map's channels, not the map.
    The channels are standardised, which W and b could undo: otherwise the learning rate would favour encoders with
    large activations.

    Args:
        encoder: gives the feature maps.
        subset: (n,) int64 positions of the training images.
        seed: of the order of the images.
        epochs: passes over the subset; None makes 50, bounded by the two numbers of steps.
        batch_size: images in a batch, or the whole subset when it is smaller.
        learning_rate: of Adam; it falls to zero along a cosine.
        fewest_steps, most_steps: bounds without `epochs`.

    Returns:
        Scores with `steps` made.

    Raises:
        UserError: the backbone has no feature map, or an option is not positive.

    Source: the student report on denoising autoencoders whose encoder `conv9` is. Its dense layer behind the average is
    left out, as two linear maps in a row are one.
    """
    batch_size, steps = training_steps(len(subset), batch_size, learning_rate, epochs, fewest_steps, most_steps)
    train, test = standardised(encoder.map_means[0][subset], encoder.map_means[1])
    classifier = fit_softmax(
        train, encoder.train_labels[subset], encoder.classes, batch_size, steps, learning_rate, seed
    )
    with torch.no_grad():
        return accuracy(ranks(classifier(test), encoder.test_labels), steps=steps)


@torch.enable_grad()
def fit_softmax(
    features: Tensor, labels: Tensor, classes: int, batch_size: int, steps: int, learning_rate: float, seed: int
) -> nn.Linear:
    """Trains a linear classifier with softmax cross-entropy, from zero weights.

    Args:
        features: (n, C) float32.
        labels: (n,) int64 in [0, classes).
        classes: number of classes.
        batch_size: at most n; what an epoch's last batch lacks is left out.
        steps: optimiser steps.
        learning_rate: of Adam at the first step.
        seed: of the order of the images.
    """
    classifier = nn.Linear(features.shape[1], classes, device=features.device)
    for parameter in classifier.parameters():
        nn.init.zeros_(parameter)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(seed)
    step = 0
    while step < steps:
        order = torch.randperm(len(labels), generator=generator).to(features.device)
        for batch in order.split(batch_size)[: min(len(labels) // batch_size, steps - step)]:
            optimizer.zero_grad()
            functional.cross_entropy(classifier(features[batch]), labels[batch]).backward()
            optimizer.step()
            schedule.step()
            step += 1
    return classifier
