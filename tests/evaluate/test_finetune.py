"""Fine-tuning: it learns, leaves the encoder alone, repeats itself, and augments with the run's normalisation."""

from __future__ import annotations

import pytest
import torch

from sslfast.augment import ViewSpec
from sslfast.errors import TrainingError, UserError
from sslfast.evaluate import Encoder
from sslfast.evaluate.finetune import evaluate_finetune, training_view

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


def test_augmentation_keeps_the_views_size_and_normalisation():
    view = ViewSpec(size=(20, 24), center_fraction=0.875, mean=(0.1, 0.2), std=(0.3, 0.4))
    light = training_view(view)
    assert (light.shape, light.mean, light.std) == (view.shape, view.mean, view.std)
    assert light.crop_scale is not None
    assert light.hflip == 0.5


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


def test_a_network_that_diverges_names_the_cure(encoder: Encoder):
    with pytest.raises(TrainingError, match=r"diverged within 20 steps.*below"):
        evaluate_finetune(encoder, ALL, epochs=20, learning_rate=1e30)
