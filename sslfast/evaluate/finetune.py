"""Supervised training of the whole network, from the encoder's weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from sslfast.errors import UserError
from sslfast.evaluate.features import Encoder, MapMean, apply, evaluating, known_labels
from sslfast.evaluate.results import Scores, accuracy, compared_with, ranks
from sslfast.evaluate.subsets import label_subset
from sslfast.evaluate.training import check_converged, seeded, training_batches, training_steps
from sslfast.models.backbone import explained_batch_norm
from sslfast.registry import nearest

# What is between the backbone and the linear layer.
HEADS: dict[str, Callable[[nn.Module], nn.Module]] = {"linear": nn.Sequential, "linear_conv": MapMean}
STEPS_BETWEEN_CHECKS = 20  # at least: an epoch of few labels is too short to judge by


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
    patience: int = 0,
    held_out: float = 0.2,
    decay: float = 1.0,
    head: Literal["linear", "linear_conv"] = "linear",
) -> Scores:
    """Trains a copy of the backbone with a classifier on it, all weights free, with Adam and cross-entropy.

    `epochs=50, augmentation=False, head="linear_conv"` is the protocol of the student report on denoising autoencoders
    whose encoder `conv9` is: 50 epochs at 2e-4. Left alone, few labels are trained longer and many labels shorter than
    that.

    With early stopping (`patience`) a part of the given labels is held out of training, the same part of each class:
    no label beyond the budget is used. After each epoch, or after 20 steps where an epoch has fewer, the cross-entropy
    on that part is measured; training ends when it has not fallen for so many measurements in a row, and the weights of
    the lowest one are kept. A class always keeps a training image, so where the classes have too few images to hold
    one out (one or two each, with the usual fifth) all steps are made.

    Args:
        encoder: gives the backbone, which keeps its weights.
        subset: (n,) int64 positions of the training images.
        seed: of the classifier's weights, the order of the images and the augmentation.
        epochs: passes over the subset; None makes 50, bounded by the two numbers of steps.
        batch_size: images in a batch, or the whole subset when it is smaller.
        learning_rate: of Adam.
        augmentation: train on random-resized-crops and flips (the preset "supervised") instead of the test view.
        fewest_steps, most_steps: bounds without `epochs`.
        patience: measurements without a lower cross-entropy before training ends; 0, no early stopping.
        held_out: part of each class that is held out for early stopping, in (0, 1).
        decay: factor of the learning rate after each epoch, in (0, 1]; 1 keeps it. The student report on split-brain
            autoencoders has 0.1.
        head: what classifies: "linear", one layer on the pooled features; "linear_conv", a 1x1 convolution of the
            feature map and global average pooling, as in the protocol of that name.

    Returns:
        Scores with `steps` made; with early stopping also `held_out_images`, and `best_step`, whose weights were kept.

    Raises:
        UserError: an option is out of its range, the backbone has no feature map for the head, or a batch is one image
            and too small for batch norm.
        TrainingError: the network diverged.
    """
    if not 0.0 < decay <= 1.0:
        raise UserError(f"fine-tuning with a decay of {decay:g}; give a factor in (0, 1], 1 for a constant rate")
    subset, validation = _split(encoder, subset, patience, held_out, seed)
    batch_size, steps = training_steps(len(subset), batch_size, learning_rate, epochs, fewest_steps, most_steps)
    steps_an_epoch = len(subset) // batch_size
    with seeded(seed, encoder.device), torch.enable_grad(), explained_batch_norm():
        network = _classifier(encoder, head).train()
        optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
        stopping = _EarlyStopping(network, encoder, validation, patience)
        batches = training_batches(encoder, subset, batch_size, steps, seed, augmentation)
        for step, (epoch, views, labels) in enumerate(batches, start=1):
            optimizer.param_groups[0]["lr"] = learning_rate * decay**epoch
            optimizer.zero_grad()
            functional.cross_entropy(network(views), labels).backward()
            optimizer.step()
            if step % steps_an_epoch == 0 and stopping.ends(step):
                break
    details = stopping.restore() if patience else {}
    with evaluating(network):
        scores = apply(network, encoder.test, encoder.view, encoder.device)
    check_converged(scores, "fine-tuning", steps, learning_rate)
    return accuracy(ranks(scores, encoder.test_labels), steps=step, **details)


class _EarlyStopping:
    """Measures held-out images, keeps the weights of the lowest cross-entropy and says when to stop.

    Args:
        network: from views to the scores of classes.
        encoder: gives the images and their view.
        held_out: (m,) int64 positions of training images, none of which the network learns from; without any, or
            without patience, training never ends early.
        patience: measurements without a lower cross-entropy that end the training.
    """

    def __init__(self, network: nn.Module, encoder: Encoder, held_out: Tensor, patience: int) -> None:
        self._network, self._encoder, self._patience = network, encoder, patience
        self._images = encoder.train.select(held_out) if len(held_out) else None
        self._lowest, self._best_step, self._last_step, self._without = math.inf, 0, 0, 0
        self._weights: dict[str, Tensor] | None = None

    def ends(self, step: int) -> bool:
        """Measures after `step` steps, at the end of an epoch, unless the last measurement is too recent."""
        if self._images is None or step - self._last_step < STEPS_BETWEEN_CHECKS:
            return False
        self._last_step = step
        with evaluating(self._network):
            scores = apply(self._network, self._images, self._encoder.view, self._encoder.device)
        loss = float(functional.cross_entropy(scores, known_labels(self._images).to(scores.device)))
        if loss < self._lowest:
            self._lowest, self._best_step, self._without = loss, step, 0
            self._weights = {name: value.clone() for name, value in self._network.state_dict().items()}
        else:
            self._without += 1
        return self._without >= self._patience

    def restore(self) -> dict[str, int]:
        """Gives the network the kept weights, where there are any; what to tell of it."""
        if self._weights is not None:
            self._network.load_state_dict(self._weights)
        details = {"held_out_images": 0 if self._images is None else len(self._images)}
        return details | ({"best_step": self._best_step} if self._weights is not None else {})


def _split(encoder: Encoder, subset: Tensor, patience: int, held_out: float, seed: int) -> tuple[Tensor, Tensor]:
    """The positions to learn from and those held out for early stopping, in ascending order."""
    if patience < 0:
        raise UserError(f"early stopping with a patience of {patience}; give 1 or more, or 0 for none")
    if not 0.0 < held_out < 1.0:
        raise UserError(f"early stopping with {held_out:g} of the labels held out; give a part in (0, 1), such as 0.2")
    if not patience:
        return subset, subset[:0]
    kept = label_subset(encoder.train_labels[subset], fraction=1.0 - held_out, seed=seed)
    out = torch.ones(len(subset), dtype=torch.bool, device=subset.device)
    out[kept] = False
    return subset[kept], subset[out]


def _classifier(encoder: Encoder, head: str) -> nn.Module:
    if head not in HEADS:
        raise UserError(f"unknown head {head!r}; {nearest(head, list(HEADS))}")
    trunk = HEADS[head](copy.deepcopy(encoder.backbone).requires_grad_(True))
    with evaluating(trunk):
        features = apply(trunk, encoder.test.select(slice(0, 1)), encoder.view, encoder.device).shape[1]
    return nn.Sequential(trunk, nn.Linear(features, encoder.classes, device=encoder.device))
