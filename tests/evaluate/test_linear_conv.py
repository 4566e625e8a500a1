"""The 1x1 convolution: averaging first is the same network, and it learns what is separable."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from sslfast.augment import MultiView
from sslfast.errors import UserError
from sslfast.evaluate import Encoder
from sslfast.evaluate.linear_conv import evaluate_linear_conv, fit_softmax
from sslfast.evaluate.results import accuracy, ranks


def maps(count, seed):
    """Feature maps (count, 5, 3, 2) of three classes that differ in the mean of their channels only."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    centres = torch.tensor([[1.0, 0, 0, 0, 0], [0, 1.0, 0, 0, 0], [0, 0, 1.0, 0, 0]])
    return centres[labels][:, :, None, None] + torch.randn(count, 5, 3, 2, generator=generator), labels


def test_is_the_network_with_the_convolution_before_the_average():
    """A 1x1 convolution, average pooling and softmax, trained on whole maps in the same batches."""
    images, labels = maps(50, seed=0)
    trained = fit_softmax(images.mean(dim=(2, 3)), labels, 3, batch_size=16, steps=20, learning_rate=0.01, seed=5)
    convolution = nn.Conv2d(5, 3, kernel_size=1)
    nn.init.zeros_(convolution.weight)
    nn.init.zeros_(convolution.bias)
    optimizer = torch.optim.Adam(convolution.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    generator = torch.Generator().manual_seed(5)
    orders = [torch.randperm(50, generator=generator) for _ in range(7)]
    for step in range(20):
        epoch, position = divmod(step, 3)
        batch = orders[epoch][16 * position : 16 * position + 16]
        optimizer.zero_grad()
        logits = functional.adaptive_avg_pool2d(convolution(images[batch]), 1).flatten(1)
        functional.cross_entropy(logits, labels[batch]).backward()
        optimizer.step()
        schedule.step()
    torch.testing.assert_close(trained.weight, convolution.weight[:, :, 0, 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(trained.bias, convolution.bias, rtol=1e-4, atol=1e-5)
    assert trained.weight.abs().max() > 0.05


def test_reaches_the_accuracy_of_the_best_rule(with_features):
    """Equal spherical classes: the best rule takes the largest of the first three channel means."""
    train, test = maps(900, seed=0), maps(600, seed=1)
    means = [(images.mean(dim=(2, 3)), labels) for images, labels in (train, test)]
    scores = evaluate_linear_conv(with_features(*means, 3), torch.arange(900), epochs=20)
    best = accuracy(ranks(means[1][0][:, :3], test[1]))
    assert scores.top1 == pytest.approx(best.top1, abs=2.0)
    assert 80 < best.top1 < 100
    assert scores.details == {"steps": 20 * (900 // 256)}


def test_the_map_is_averaged_over_its_positions(encoder: Encoder):
    encoder.backbone.eval()
    with torch.no_grad():
        expected = encoder.backbone.feature_map(MultiView([encoder.view])(encoder.test).tensors[0]).mean(dim=(2, 3))
    torch.testing.assert_close(encoder.map_means[1], expected)


def test_the_budget_is_bounded_unless_epochs_are_given(with_features):
    train = maps(30, seed=0)
    means = (train[0].mean(dim=(2, 3)), train[1])
    task, subset = with_features(means, means, 3), torch.arange(30)
    assert evaluate_linear_conv(task, subset, fewest_steps=70).details["steps"] == 70
    assert evaluate_linear_conv(task, subset, fewest_steps=5, most_steps=9).details["steps"] == 9
    assert evaluate_linear_conv(task, subset, batch_size=10, fewest_steps=5).details["steps"] == 150
    assert evaluate_linear_conv(task, subset, batch_size=7, epochs=2).details["steps"] == 8


def test_a_backbone_without_a_map_names_the_cure(encoder: Encoder):
    encoder.backbone = nn.Flatten()
    with pytest.raises(UserError, match="feature_map"):
        evaluate_linear_conv(encoder, torch.arange(80))


@pytest.mark.parametrize(
    "options", [{"epochs": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"fewest_steps": 9, "most_steps": 8}]
)
def test_options_out_of_range_name_the_cure(with_features, options):
    train = maps(30, seed=0)
    means = (train[0].mean(dim=(2, 3)), train[1])
    with pytest.raises(UserError, match="give"):
        evaluate_linear_conv(with_features(means, means, 3), torch.arange(30), **options)
