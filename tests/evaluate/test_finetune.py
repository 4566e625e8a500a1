"""Fine-tuning: it learns, leaves the encoder alone, repeats itself, and augments with the run's normalisation."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from sslfast.augment import MultiView
from sslfast.data import MemoryLoader
from sslfast.errors import TrainingError, UserError
from sslfast.evaluate import Encoder, finetune
from sslfast.evaluate.features import apply
from sslfast.evaluate.finetune import evaluate_finetune
from sslfast.evaluate.subsets import label_subset

ALL = torch.arange(80)


def test_learns_what_the_initial_network_does_not_know(encoder: Encoder):
    untrained = evaluate_finetune(encoder, ALL, epochs=1, learning_rate=1e-12)
    trained = evaluate_finetune(encoder, ALL, epochs=40, learning_rate=1e-2)
    assert untrained.top1 < 60
    assert trained.top1 > 90
    assert trained.details == {"steps": 40}


def test_trains_a_copy_of_the_encoder(encoder: Encoder):
    encoder.backbone.requires_grad_(False).eval()
    before = {name: value.clone() for name, value in encoder.backbone.state_dict().items()}
    scores = evaluate_finetune(encoder, ALL, epochs=40, learning_rate=1e-2)
    assert scores.top1 > 90
    for name, value in encoder.backbone.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert not any(parameter.requires_grad for parameter in encoder.backbone.parameters())
    assert not encoder.backbone.training


def test_every_weight_is_trained(encoder: Encoder, monkeypatch):
    trained = {}
    step = torch.optim.Adam.step

    def watched(optimizer):
        for parameter in optimizer.param_groups[0]["params"]:
            trained[id(parameter)] = trained.get(id(parameter), 0.0) + parameter.grad.abs().sum().item()
        return step(optimizer)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    evaluate_finetune(encoder, ALL, epochs=2)
    assert len(trained) == len(list(encoder.backbone.parameters())) + 2
    assert min(trained.values()) > 0


def test_the_seed_decides_and_the_callers_random_stream_goes_on(encoder: Encoder):
    def outcome(seed, state):
        torch.manual_seed(state)
        scores = evaluate_finetune(encoder, ALL, seed=seed, epochs=3, learning_rate=3e-3)
        return scores, torch.rand(1).item()

    torch.manual_seed(11)
    next_number = torch.rand(1).item()
    first, number = outcome(seed=4, state=11)
    assert number == next_number
    assert outcome(seed=4, state=12)[0] == first


def test_only_the_subset_is_seen(encoder: Encoder):
    """Learned from two classes, it never names the other two."""
    subset = ALL[ALL % 4 < 2]
    scores = evaluate_finetune(encoder, subset, epochs=60, learning_rate=1e-2)
    assert 40 < scores.top1 <= 50


def test_augmentation_can_be_switched_off(encoder: Encoder):
    plain = evaluate_finetune(encoder, ALL, epochs=40, learning_rate=1e-2, augmentation=False)
    assert plain.top1 > 90


def test_the_budget_is_bounded_unless_epochs_are_given(encoder: Encoder):
    few = ALL[:8]
    assert evaluate_finetune(encoder, few, fewest_steps=60).details["steps"] == 60
    assert evaluate_finetune(encoder, few, fewest_steps=1).details["steps"] == 50
    assert evaluate_finetune(encoder, few, fewest_steps=1, most_steps=7).details["steps"] == 7
    assert evaluate_finetune(encoder, few, epochs=3, batch_size=4).details["steps"] == 6


@pytest.mark.parametrize("options", [{"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"fewest_steps": 0}])
def test_options_out_of_range_name_the_cure(encoder: Encoder, options):
    with pytest.raises(UserError, match="give"):
        evaluate_finetune(encoder, ALL, **options)


def test_a_batch_too_small_for_batch_norm_names_the_cure(encoder: Encoder):
    encoder.backbone = nn.Sequential(encoder.backbone, nn.BatchNorm1d(12))
    with pytest.raises(UserError, match=r"batch norm got a single value .* set a batch size of 2 or more"):
        evaluate_finetune(encoder, ALL, batch_size=1)


def test_a_network_that_diverges_names_the_cure(encoder: Encoder):
    with pytest.raises(TrainingError, match=r"diverged within 20 steps.*below"):
        evaluate_finetune(encoder, ALL, epochs=20, learning_rate=1e30)


def overfitting(encoder: Encoder) -> Encoder:
    """The same images under labels that say nothing about them: what is learned of some is wrong for the others."""
    label = encoder.train_labels[torch.randperm(80, generator=torch.Generator().manual_seed(5))]
    return replace(encoder, train=replace(encoder.train, label=label))


def test_early_stopping_keeps_the_weights_of_the_lowest_held_out_loss(encoder: Encoder):
    """It stops `patience` measurements behind the best one, and scores like a run that ends at the best one."""
    task = overfitting(encoder)
    options = {"learning_rate": 1e-2, "batch_size": 16, "augmentation": False}
    stopped = evaluate_finetune(task, ALL, epochs=200, patience=3, **options)
    kept = label_subset(task.train_labels, fraction=0.8)
    epoch = len(kept) // 16
    assert stopped.details["held_out_images"] == 80 - len(kept) == 16
    best, last = stopped.details["best_step"], stopped.details["steps"]
    assert best % epoch == last % epoch == 0 and last < 200 * epoch
    assert last - best == 3 * 20  # an epoch of 4 steps is too short, so every fifth is measured
    same = evaluate_finetune(task, kept, epochs=best // epoch, **options)
    longer = evaluate_finetune(task, kept, epochs=last // epoch, **options)
    assert stopped.top1 == same.top1 != longer.top1


def test_early_stopping_measures_the_held_out_images_after_each_epoch(encoder: Encoder, monkeypatch):
    task = overfitting(encoder)
    held_out = set(range(80)) - set(label_subset(task.train_labels, fraction=0.5).tolist())
    measured, original = [], finetune.apply

    def watched(function, images, view, device):
        if len(images) == 40 and images is not task.test:
            measured.append(set(images.index.tolist()))
        return original(function, images, view, device)

    monkeypatch.setattr(finetune, "apply", watched)
    scores = evaluate_finetune(task, ALL, epochs=4, batch_size=2, patience=9, held_out=0.5, learning_rate=1e-3)
    assert scores.details["steps"] == 80
    assert measured == [held_out] * 4


def test_classes_without_an_image_to_spare_are_trained_to_the_end(encoder: Encoder):
    scores = evaluate_finetune(encoder, ALL[:8], epochs=60, patience=1)
    assert scores.details == {"steps": 60, "held_out_images": 0}
    assert evaluate_finetune(encoder, ALL[:12], epochs=1, patience=1).details["held_out_images"] == 4


@pytest.mark.parametrize("options", [{"patience": -1}, {"patience": 1, "held_out": 0.0}, {"held_out": 1.0}])
def test_early_stopping_options_out_of_range_name_the_cure(encoder: Encoder, options):
    with pytest.raises(UserError, match=r"early stopping with .*; give"):
        evaluate_finetune(encoder, ALL, **options)


def test_the_head_of_linear_conv_is_a_1x1_convolution_and_global_average_pooling(encoder: Encoder):
    """Against a network with the convolution before the average, trained on the same batches."""
    weights = {}

    def watched(network, images, view, device):
        if isinstance(network, torch.nn.Sequential):
            weights.update(network[1].state_dict())
        return apply(network, images, view, device)

    options = {"seed": 3, "epochs": 2, "batch_size": 20, "learning_rate": 1e-2, "augmentation": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "apply", watched)
        evaluate_finetune(encoder, ALL, head="linear_conv", **options)
    torch.manual_seed(3)
    layer = torch.nn.Linear(12, 4)
    convolution = torch.nn.Conv2d(12, 4, kernel_size=1)
    convolution.weight.data = layer.weight.data[:, :, None, None].clone()
    convolution.bias.data = layer.bias.data.clone()
    backbone = copy.deepcopy(encoder.backbone).train()
    optimizer = torch.optim.Adam([*backbone.parameters(), *convolution.parameters()], lr=1e-2)
    loader = MemoryLoader(encoder.train, 20, seed=3)
    for epoch in range(2):
        for batch in loader.epoch(epoch):
            maps = backbone.feature_map(MultiView([encoder.view])(batch).tensors[0])
            loss = functional.cross_entropy(convolution(maps).mean(dim=(2, 3)), batch.label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert (convolution.weight[:, :, 0, 0] - layer.weight).abs().max() > 0.02
    torch.testing.assert_close(weights["weight"], convolution.weight.detach()[:, :, 0, 0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(weights["bias"], convolution.bias.detach(), rtol=1e-3, atol=1e-4)


def test_the_head_names_its_mistakes(encoder: Encoder):
    with pytest.raises(UserError, match="unknown head 'linear_cov'; did you mean 'linear_conv'"):
        evaluate_finetune(encoder, ALL, epochs=1, head="linear_cov")
    encoder.backbone = torch.nn.Flatten()
    with pytest.raises(UserError, match="feature_map"):
        evaluate_finetune(encoder, ALL, epochs=1, head="linear_conv")


def test_decay_lowers_the_learning_rate_after_each_epoch(encoder: Encoder, monkeypatch):
    rates = []
    step = torch.optim.Adam.step

    def watched(optimizer):
        rates.append(optimizer.param_groups[0]["lr"])
        return step(optimizer)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    evaluate_finetune(encoder, ALL, epochs=3, batch_size=40, learning_rate=1e-2, decay=0.1)
    assert rates == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4])
    for decay in (0.0, 1.5, -1.0):
        with pytest.raises(UserError, match="decay"):
            evaluate_finetune(encoder, ALL, decay=decay)
