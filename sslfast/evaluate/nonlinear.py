"""Classification of the frozen feature map of any layer by a small multi-layer perceptron."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sslfast.errors import UserError
from sslfast.evaluate.features import Encoder, apply, evaluating
from sslfast.evaluate.results import Scores, accuracy, ranks
from sslfast.evaluate.training import check_converged, seeded, training_batches, training_steps
from sslfast.models.backbone import explained_batch_norm


def evaluate_nonlinear(
    encoder: Encoder,
    subset: Tensor,
    seed: int = 0,
    epochs: int | None = None,
    layer: str = "",
    hidden: int = 200,
    batch_size: int = 128,
    learning_rate: float = 0.1,
    augmentation: bool = False,
    fewest_steps: int = 300,
    most_steps: int = 5000,
) -> Scores:
    """Trains two hidden layers, each with batch norm and ReLU, and a linear classifier on a frozen layer's output.

    What an early layer has learned is often worth more than the last one, which serves the pretext task. The frozen
    layers are computed again in every step, so memory does not grow with the number of images.

    The learning rate falls along a cosine, where the paper lowers it in steps; the authors' code has Nesterov's
    momentum.

    Args:
        encoder: gives the backbone, which keeps its weights and statistics.
        subset: (n,) int64 positions of the training images.
        seed: of the classifier's weights, the order of the images and the augmentation.
        epochs: passes over the subset; None makes 50, bounded by the two numbers of steps.
        layer: name of the part of the backbone whose output is classified, such as "blocks.1"; empty, the feature map.
        hidden: width of the two hidden layers.
        batch_size: images in a batch, or the whole subset when it is smaller.
        learning_rate: of SGD with momentum 0.9 and weight decay 5e-4; it falls to zero along a cosine.
        augmentation: train on random-resized-crops and flips (the preset "supervised") instead of the test view.
        fewest_steps, most_steps: bounds without `epochs`.

    Returns:
        Scores with `steps` made.

    Raises:
        UserError: the backbone has no such layer, an option is not positive, or a batch is one image.
        TrainingError: the classifier diverged.

    Source: Gidaris et al. 2018 (RotNet), section 4.1.
    """
    if hidden < 1:
        raise UserError(f"evaluation with {hidden} hidden units; give 1 or more")
    batch_size, steps = training_steps(len(subset), batch_size, learning_rate, epochs, fewest_steps, most_steps)
    device = encoder.device
    frozen = _Layer(encoder.backbone, layer)
    with evaluating(encoder.backbone), seeded(seed, device):
        width = apply(frozen, encoder.test.select(slice(0, 1)), encoder.view, device).shape[1]
        classifier = _perceptron(width, hidden, encoder.classes).to(device)
        optimizer = torch.optim.SGD(classifier.parameters(), lr=learning_rate, momentum=0.9, weight_decay=5e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _, views, labels in training_batches(encoder, subset, batch_size, steps, seed, augmentation):
            with torch.enable_grad(), explained_batch_norm():
                functional.cross_entropy(classifier(frozen(views)), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        classifier.eval()
        scores = apply(lambda images: classifier(frozen(images)), encoder.test, encoder.view, device)
    check_converged(scores, "the classifier", steps, learning_rate)
    return accuracy(ranks(scores, encoder.test_labels), steps=steps)


def _perceptron(width: int, hidden: int, classes: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs in (width, hidden):
        layers += [nn.Linear(inputs, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(hidden, classes))


class _Layer:
    """The output of one part of a backbone, flattened to (B, D), without gradient."""

    def __init__(self, backbone: nn.Module, name: str) -> None:
        parts = dict(backbone.named_modules())
        if name not in parts:
            shown = ", ".join(part for part in parts if part and part.count(".") < 2)
            raise UserError(f"{type(backbone).__name__} has no layer {name!r}; its layers are {shown}")
        if not name and not hasattr(backbone, "feature_map"):
            raise UserError(f"{type(backbone).__name__} has no feature map; name a layer of it")
        self.backbone, self.part = backbone, parts[name] if name else None

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        if self.part is None:
            return self.backbone.feature_map(images).flatten(1)  # type: ignore[operator]
        caught: list[Tensor] = []
        with self.part.register_forward_hook(lambda module, inputs, output: caught.append(output)):
            self.backbone(images)
        return caught[0].flatten(1)
