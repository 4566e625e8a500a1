"""The classifier with two hidden layers: what it reads, that the encoder stays, and bad options."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sslfast.augment import MultiView
from sslfast.errors import UserError
from sslfast.evaluate import Encoder
from sslfast.evaluate.nonlinear import _Layer, evaluate_nonlinear

ALL = torch.arange(80)


def test_learns_and_leaves_the_encoder_alone(encoder: Encoder):
    before = {name: value.clone() for name, value in encoder.backbone.state_dict().items()}
    scores = evaluate_nonlinear(encoder, ALL, epochs=15, batch_size=20)
    assert scores.top1 > 90
    assert scores.details == {"steps": 60}
    for name, value in encoder.backbone.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert evaluate_nonlinear(encoder, ALL, epochs=15, batch_size=20) == scores
    assert evaluate_nonlinear(encoder, ALL, epochs=1, learning_rate=1e-9).top1 < 60


def test_reads_the_layer_it_is_told(encoder: Encoder):
    encoder.backbone.eval()
    images = MultiView([encoder.view])(encoder.test).tensors[0]
    with torch.no_grad():
        first, last = encoder.backbone.layers[0](images), encoder.backbone.feature_map(images)
    torch.testing.assert_close(_Layer(encoder.backbone, "layers.0")(images), first.flatten(1))
    torch.testing.assert_close(_Layer(encoder.backbone, "")(images), last.flatten(1))
    assert evaluate_nonlinear(encoder, ALL, epochs=10, layer="layers.0", augmentation=True).top1 > 60


@pytest.mark.parametrize(
    ("options", "cure"),
    [({"layer": "layers.9"}, "its layers are"), ({"hidden": 0}, "give 1 or more"), ({"epochs": 0}, "give 1 or more")],
)
def test_bad_options_name_the_cure(encoder: Encoder, options, cure):
    with pytest.raises(UserError, match=cure):
        evaluate_nonlinear(encoder, ALL, **options)


def test_a_batch_of_one_image_is_refused(encoder: Encoder):
    with pytest.raises(UserError, match=r"batch norm got a single value a channel .* set a batch size of 2 or more"):
        evaluate_nonlinear(encoder, ALL, batch_size=1)


def test_a_backbone_without_a_map_needs_a_layer(encoder: Encoder):
    encoder.backbone = nn.Flatten()
    with pytest.raises(UserError, match="name a layer"):
        evaluate_nonlinear(encoder, ALL)
