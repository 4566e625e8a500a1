"""Every method's backbone goes through every protocol, without any training: what evaluation asks of a method."""

from __future__ import annotations

import inspect

import pytest
import torch

from sslfast import registry
from sslfast.data import ImageBatch
from sslfast.evaluate import Encoder
from sslfast.methods import build


def images(count: int, seed: int) -> ImageBatch:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8, generator=generator)
    return ImageBatch.from_dense(pixels, label=torch.arange(count) % 4)


@pytest.mark.parametrize("name", list(registry.METHODS))
def test_every_protocol_measures_it(name: str):
    method = build(name, backbone="resnet10_narrow", image_size=32)
    encoder = Encoder(method.backbone, method.evaluation_view, images(24, 0), images(8, 1), classes=4)
    weights = [parameter.clone() for parameter in method.backbone.parameters()]
    for protocol in registry.PROTOCOLS:
        function = registry.resolve("protocols", protocol)
        options = {"epochs": 1} if "epochs" in inspect.signature(function).parameters else {}
        scores = function(encoder, torch.arange(24), **options)
        assert 0.0 <= scores.top1 <= scores.top5 <= 100.0, protocol
    for before, parameter in zip(weights, method.backbone.parameters(), strict=True):
        assert torch.equal(before, parameter)
