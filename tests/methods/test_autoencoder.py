"""Autoencoders: the loss written plainly, the noise, pictures, and learning."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sslfast.data.batch import ImageBatch
from sslfast.methods import build
from sslfast.methods.autoencoder import Autoencoder


@pytest.fixture(scope="module")
def batch() -> ImageBatch:
    generator = torch.Generator().manual_seed(0)
    return ImageBatch.from_dense(torch.randint(60, 200, (6, 20, 20, 3), dtype=torch.uint8, generator=generator))


@pytest.mark.parametrize("name", ["autoencoder", "denoising_autoencoder"])
@pytest.mark.parametrize("backbone", ["conv9", "resnet10_narrow"])
def test_loss_is_the_mean_squared_error_to_the_clean_image(name: str, backbone: str, batch: ImageBatch) -> None:
    method = build(name, backbone=backbone, image_size=20)
    assert isinstance(method, Autoencoder)
    views = method.views(batch)
    clean = torch.stack([batch.image(i) for i in range(len(batch))]).permute(0, 3, 1, 2).double().numpy() / 255
    np.testing.assert_allclose(views.tensors[0].numpy(), clean, atol=1e-6)
    with torch.no_grad():
        loss = method(views)["loss"]
        reconstruction = method.reconstruct(views.tensors[-1]).double().numpy()
    assert float(loss) == pytest.approx(((reconstruction - clean) ** 2).mean(), rel=1e-5)


def test_the_plain_one_reconstructs_its_own_input(batch: ImageBatch) -> None:
    assert len(build("autoencoder", backbone="conv9", image_size=20).views(batch).tensors) == 1


def test_gaussian_noise_has_the_report_s_deviation(batch: ImageBatch) -> None:
    clean, noisy = build("denoising_autoencoder", backbone="conv9", image_size=20).views(batch).tensors
    noise = noisy - clean
    assert float(noise.std()) == pytest.approx(0.1, rel=0.05)
    assert abs(float(noise.mean())) < 0.01


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.2, 0.5])
@pytest.mark.parametrize(("kind", "values"), [("salt_pepper", {0.0, 1.0}), ("masking", {0.0})])
def test_other_noise(kind: str, values: set[float], fraction: float, batch: ImageBatch) -> None:
    """That fraction of the pixels has all channels at one of the values; all others are untouched."""
    options = {"gaussian": 0.0, kind: fraction}
    clean, noisy = build("denoising_autoencoder", backbone="conv9", image_size=20, **options).views(batch).tensors
    hit = (clean != noisy).any(dim=1)
    assert torch.equal(hit, (clean != noisy).all(dim=1))  # the images have neither black nor white
    corrupted = noisy.permute(0, 2, 3, 1)[hit]
    assert set(corrupted.unique().tolist()) == values
    assert torch.equal(corrupted.amin(dim=1), corrupted.amax(dim=1))
    pixels = hit.numel()
    assert float(hit.float().mean()) == pytest.approx(fraction, abs=5 * (fraction * (1 - fraction) / pixels) ** 0.5)


def test_the_noise_changes_from_epoch_to_epoch(batch: ImageBatch) -> None:
    method = build("denoising_autoencoder", backbone="conv9", image_size=20)
    (clean0, noisy0), (clean1, noisy1) = (method.views(batch, epoch).tensors for epoch in (0, 1))
    assert torch.equal(clean0, clean1)
    assert not torch.equal(noisy0, noisy1)


@pytest.mark.parametrize("training", [True, False])
def test_pictures(training: bool, batch: ImageBatch) -> None:
    method = build("denoising_autoencoder", backbone="conv9", image_size=20).train(training)
    views = method.views(batch)
    state = {name: value.clone() for name, value in method.state_dict().items()}
    pictures = method.pictures(views)
    assert list(pictures) == ["reconstruction"]
    for picture in pictures.values():
        assert picture.shape == (6, 3, 20, 20)
        assert 0.0 <= float(picture.min()) <= float(picture.max()) <= 1.0
        assert not picture.requires_grad
    assert method.training is training
    assert all(torch.equal(value, state[name]) for name, value in method.state_dict().items())


@pytest.mark.parametrize("backbone", ["conv9", "resnet10_narrow"])
@pytest.mark.parametrize("size", [20, 33])
def test_a_few_steps_lower_the_loss(backbone: str, size: int, batch: ImageBatch) -> None:
    method = build("denoising_autoencoder", backbone=backbone, image_size=size)
    optimizer = torch.optim.Adam(method.parameters(), lr=2e-3)
    losses = []
    for epoch in range(12):
        loss = method(method.views(batch, epoch))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
