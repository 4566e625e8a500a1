"""The peers do the work that they are timed for: their views against sslfast's and torchvision's."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from sslfast.augment import MultiView, ViewSpec, presets
from sslfast.data import ImageBatch, build_source

PLAIN = ViewSpec(size=24, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def peer(name: str) -> Any:
    return importlib.import_module(f"benchmarks.peers.{name}")


@pytest.fixture(scope="module")
def images() -> Tensor:
    """(64, 40, 40, 3) uint8."""
    batch = build_source("shapes", size=40, limit=64).read()
    return torch.stack([batch.image(i) for i in range(64)])


def dali(images: Tensor, spec: ViewSpec) -> Tensor:
    pytest.importorskip("nvidia.dali")
    return peer("dali").views(images, spec, threads=1)().clone()


def ours(images: Tensor, spec: ViewSpec) -> Tensor:
    return MultiView([spec])(ImageBatch.from_dense(images)).tensors[0]


def test_dali_resizes_as_sslfast_does(images: Tensor):
    """Except near the border, where DALI's filter counts the outermost pixels more than once."""
    difference = (dali(images, PLAIN) - ours(images, PLAIN)).abs()
    assert difference[..., 2:-2, 2:-2].max() <= 1 / 255 and difference.max() < 0.05


def test_dali_blurs_as_torchvision_does(images: Tensor):
    sharp = dali(images, PLAIN)
    blurred = dali(images, PLAIN.replace(blur=1.0, blur_sigma=(1.5, 1.50001), blur_kernel=9))
    expected = functional.gaussian_blur(sharp, 9, 1.5)
    assert (sharp - expected).abs().max() > 0.05
    assert (blurred - expected).abs().max() < 2 / 255


def test_dali_flips_and_makes_gray(images: Tensor):
    plain = dali(images, PLAIN)
    assert torch.equal(dali(images, PLAIN.replace(hflip=1.0)), plain.flip(-1))
    gray = dali(images, PLAIN.replace(grayscale=1.0))
    assert (gray - functional.rgb_to_grayscale(plain, 3)).abs().max() <= 2 / 255


def test_dali_draws_the_probabilities(images: Tensor):
    many = images.repeat(16, 1, 1, 1)
    plain = dali(many, PLAIN)
    for change, share in (
        ({"hflip": 0.5}, 0.5),
        ({"blur": 0.5, "blur_sigma": (2.0, 2.1)}, 0.5),
        ({"grayscale": 0.2}, 0.2),
    ):
        changed = (dali(many, PLAIN.replace(**change)) != plain).flatten(1).any(1)
        assert changed.float().mean().item() == pytest.approx(share, abs=0.06)
    jittered = dali(many, PLAIN.replace(jitter=0.8, brightness=0.8))
    assert (jittered != plain).flatten(1).any(1).float().mean().item() == pytest.approx(0.8, abs=0.06)


@pytest.mark.parametrize("library", ["dali", "kornia", "torchvision", "albumentations"])
def test_views_have_the_same_statistics(images: Tensor, library: str):
    """SimCLR's views of a peer have sslfast's shape, and nearly its mean and deviation."""
    spec = presets.simclr(24)[0].replace(blur=0.5, blur_kernel=3)
    torch.manual_seed(0)
    images = images.repeat(12, 1, 1, 1)
    views = peer("views")
    if library == "dali":
        made = dali(images, spec)
    elif library == "kornia":
        pytest.importorskip("kornia")
        made = views.kornia(images, spec)()
    elif library == "torchvision":
        made = views.one_by_one(views.torchvision(spec), images.permute(0, 3, 1, 2))()
    else:
        pytest.importorskip("albumentations")
        made = views.one_by_one(views.albumentations(spec), images.numpy())()
    expected = ours(images, spec)
    assert made.shape == expected.shape and made.dtype == torch.float32
    assert made.isfinite().all()
    assert (made.mean((0, 2, 3)) - expected.mean((0, 2, 3))).abs().max() < 0.12
    assert (made.std((0, 2, 3)) / expected.std((0, 2, 3)) - 1).abs().max() < 0.15


@pytest.mark.parametrize("count", [0, 1, 2])
def test_dali_from_files(images: Tensor, tmp_path: Path, count: int):
    """Decoded images alone, one view, or several views that each draw for themselves."""
    pytest.importorskip("nvidia.dali")
    files = []
    for position in range(16):
        files.append(str(tmp_path / f"{position}.jpg"))
        Image.fromarray(images[position].numpy()).save(files[-1], quality=95)
    specs = [presets.simclr(24)[0]] * count
    settings = {"batch_size": 16, "num_threads": 1, "device_id": None, "exec_dynamic": True}
    pipeline = peer("dali").from_files(files, specs, "cpu", **settings)
    pipeline.build()
    outputs = [torch.from_dlpack(output.as_tensor()) for output in pipeline.run()]
    if count == 0:
        assert (outputs[0].float() - images[:16].float()).abs().mean() < 8
    else:
        assert [output.shape for output in outputs] == [(16, 3, 24, 24)] * count
        assert all(output.isfinite().all() for output in outputs)
        assert count == 1 or not torch.equal(*outputs)


def test_matrices_for_cv_cuda():
    """What its colour operator is given: nothing drawn is the identity; the rest changes only what it should."""
    matrices = peer("cv_cuda").colour_matrices
    like = torch.empty(0)
    identity = torch.eye(3, 4).expand(5, 3, 4)
    torch.testing.assert_close(matrices(5, PLAIN, like), identity, atol=1e-5, rtol=0)
    gray = matrices(5, PLAIN.replace(grayscale=1.0), like)
    torch.testing.assert_close(gray, torch.tensor([0.299, 0.587, 0.114, 0.0]).expand(5, 3, 4), atol=1e-3, rtol=0)
    hue = matrices(5, PLAIN.replace(jitter=1.0, hue=0.5), like)
    assert (hue - identity).abs().amax((1, 2)).min() > 1e-3
    torch.testing.assert_close(hue @ torch.tensor([9.0, 9.0, 9.0, 1.0]), torch.full((5, 3), 9.0))  # grays stay
    contrast = matrices(200, PLAIN.replace(jitter=1.0, contrast=0.5), like)
    torch.testing.assert_close(contrast @ torch.tensor([128.0] * 3 + [1.0]), torch.full((200, 3), 128.0))
    assert 0.5 <= contrast[:, 0, 0].min() < 0.6 and 1.4 < contrast[:, 0, 0].max() <= 1.5
    brightness = matrices(200, PLAIN.replace(jitter=1.0, brightness=0.5), like)
    assert brightness[:, :, 3].abs().max() == 0 and 0.5 <= brightness[:, 0, 0].min() < 0.6


def test_blurs_for_cv_cuda():
    kernels, sigmas = peer("cv_cuda").blur_parameters(400, PLAIN.replace(blur=0.5, blur_kernel=9), torch.empty(0))
    assert (kernels.dtype, sigmas.dtype) == (torch.int32, torch.float64)
    assert kernels.shape == sigmas.shape == (400, 2)
    assert set(kernels.flatten().tolist()) == {1, 9}
    assert (kernels == 9).float().mean().item() == pytest.approx(0.5, abs=0.1)
    assert sigmas.min() >= 0.1 and sigmas.max() <= 2.0


def test_solo_learns_formula_is_nt_xent():
    generator = torch.Generator().manual_seed(0)
    z0, z1 = torch.randn(2, 12, 5, generator=generator, dtype=torch.float64)
    contrastive = importlib.import_module("benchmarks.ops.contrastive")
    torch.testing.assert_close(contrastive._solo_learn(z0, z1), contrastive._plain(z0, z1))
