"""Supervised training of the whole network, from the encoder's weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from sslfast.augment import MultiView, ViewSpec, presets
from sslfast.data import build_loader
from sslfast.errors import TrainingError
from sslfast.evaluate.budget import training_steps
from sslfast.evaluate.features import Encoder, apply, evaluating, known_labels
from sslfast.evaluate.results import Scores, accuracy, compared_with, ranks


@compared_with("scratch")
def evaluate_finetune(
    encoder: Encoder,
    subset: Tensor,
    seed: int = 0,
    epochs: int | None = None,
    batch_size: int = 64,
    learning_rate: float = 2e-4,
    augmentation: bool = True,
    fewest_steps: int = 300,
    most_steps: int = 2000,
) -> Scores:
    """Trains a copy of the backbone with a linear classifier on it, all weights free, with Adam and cross-entropy.

    `epochs=50, augmentation=False` is the protocol of the student report on denoising autoencoders whose encoder
    `conv9` is: 50 epochs at 2e-4. Left alone, few labels are trained longer and many labels shorter than that.

    Args:
        encoder: gives the backbone, which keeps its weights.
        subset: (n,) int64 positions of the training images.
        seed: of the classifier's weights, the order of the images and the augmentation.
        epochs: passes over the subset; None makes 50, bounded by the two numbers of steps.
        batch_size: images in a batch, or the whole subset when it is smaller.
        learning_rate: of Adam, constant.
        augmentation: train on random-resized-crops and flips (the preset "supervised") instead of the test view.
        fewest_steps, most_steps: bounds without `epochs`.

    Returns:
        Scores with `steps` made.

    Raises:
        UserError: an option is not positive.
        TrainingError: the network diverged.
    """
    batch_size, steps = training_steps(len(subset), batch_size, learning_rate, epochs, fewest_steps, most_steps)
    device = torch.device(encoder.device)
    loader = build_loader(encoder.train.select(subset), batch_size, seed=seed, device=device)
    draw = MultiView([training_view(encoder.view) if augmentation else encoder.view], seed)
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.enable_grad():
        torch.manual_seed(seed)
        network = _classifier(encoder).train()
        optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
        for step in range(steps):
            epoch, position = divmod(step, len(loader))
            if position == 0:
                batches = loader.epoch(epoch)
            batch = next(batches)
            views = draw(batch, epoch)
            optimizer.zero_grad()
            functional.cross_entropy(network(views.tensors[0]), known_labels(batch)).backward()
            optimizer.step()
    with evaluating(network):
        scores = apply(network, encoder.test, encoder.view, device)
    if not torch.isfinite(scores).all():
        raise TrainingError(f"fine-tuning diverged within {steps} steps; use a learning rate below {learning_rate:g}")
    return accuracy(ranks(scores, encoder.test_labels), steps=steps)


def training_view(view: ViewSpec) -> ViewSpec:
    """The preset "supervised" with the size and the normalisation of `view`."""
    light = presets.supervised(min(view.shape))[0]
    return light.replace(size=view.size, mean=view.mean, std=view.std)


def _classifier(encoder: Encoder) -> nn.Module:
    with evaluating(encoder.backbone):
        features = apply(encoder.backbone, encoder.test.select(slice(0, 1)), encoder.view, encoder.device).shape[1]
    backbone = copy.deepcopy(encoder.backbone).requires_grad_(True)
    return nn.Sequential(backbone, nn.Linear(features, encoder.classes, device=encoder.device))
