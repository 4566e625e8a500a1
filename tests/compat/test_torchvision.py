"""torchvision's steps as one fused view."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as torchvision_transforms

from sslfast.augment import ViewSpec
from sslfast.compat.torchvision import transforms
from sslfast.errors import UserError

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8))


def still(library):
    """A pipeline whose randomness has one outcome."""
    return library.Compose(
        [
            library.RandomResizedCrop(24, scale=(1.0, 1.0), ratio=(1.0, 1.0)),
            library.RandomHorizontalFlip(p=1.0),
            library.RandomApply([library.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.0),
            library.RandomGrayscale(p=0.0),
            library.RandomVerticalFlip(p=1.0),
            library.ToTensor(),
            library.Normalize(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7)),
        ]
    )


def test_equals_torchvision_without_randomness():
    torch.testing.assert_close(still(transforms)(IMAGE), still(torchvision_transforms)(IMAGE), rtol=1e-6, atol=1e-6)


def test_every_argument_arrives():
    view = transforms.Compose(
        [
            transforms.RandomResizedCrop((8, 12), (0.2, 0.9), (0.5, 2.0), transforms.InterpolationMode.BICUBIC),
            transforms.ColorJitter(0.1, 0.2, 0.3, 0.4),
            transforms.RandomGrayscale(),
            transforms.RandomApply([transforms.GaussianBlur(5, sigma=(0.3, 0.4))], p=0.6),
            transforms.RandomHorizontalFlip(0.7),
            transforms.RandomVerticalFlip(),
            transforms.ToTensor(),
        ]
    )
    assert view.specs == [
        ViewSpec(
            size=(8, 12),
            crop_scale=(0.2, 0.9),
            crop_ratio=(0.5, 2.0),
            interpolation="bicubic",
            jitter=1.0,
            brightness=0.1,
            contrast=0.2,
            saturation=0.3,
            hue=0.4,
            grayscale=0.1,
            blur=0.6,
            blur_kernel=5,
            blur_sigma=(0.3, 0.4),
            hflip=0.7,
            vflip=0.5,
            mean=(0.0,),
            std=(1.0,),
        )
    ]
    (blur,) = transforms.Compose(
        [transforms.RandomResizedCrop([9]), transforms.GaussianBlur(3, 0.5), transforms.ToTensor()]
    ).specs
    assert (blur.size, blur.blur, blur.blur_sigma) == ((9, 9), 1.0, (0.5, 0.5))


def test_views_have_torchvision_s_distribution():
    """Mean and deviation of the pixels over many draws of a whole recipe."""

    def recipe(library):
        return library.Compose(
            [
                library.RandomResizedCrop(16, scale=(0.2, 1.0)),
                library.RandomHorizontalFlip(),
                library.RandomApply([library.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
                library.RandomGrayscale(p=0.2),
                library.ToTensor(),
            ]
        )

    ramp = np.broadcast_to(np.linspace(0, 255, 24)[:, None, None] * [1.0, 0.6, 0.2], (24, 24, 3)).astype(np.uint8)
    image = Image.fromarray(ramp)
    torch.manual_seed(0)
    ours, theirs = (
        torch.stack([transform(image) for _ in range(800)])
        for transform in map(recipe, (transforms, torchvision_transforms))
    )
    torch.testing.assert_close(ours.mean((0, 3)), theirs.mean((0, 3)), rtol=0, atol=0.03)
    torch.testing.assert_close(ours.std((0, 3)), theirs.std((0, 3)), rtol=0, atol=0.03)


CROP, END = transforms.RandomResizedCrop(8), transforms.ToTensor()


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [END],
        [CROP],
        [END, CROP],
        [transforms.RandomHorizontalFlip(), CROP, END],
        [CROP, transforms.RandomGrayscale(), transforms.ColorJitter(0.1), END],
        [CROP, transforms.RandomHorizontalFlip(), transforms.RandomHorizontalFlip(), END],
        [CROP, torchvision_transforms.ToTensor()],
    ],
)
def test_other_pipelines(steps):
    with pytest.raises(UserError, match="import other pipelines from torchvision"):
        transforms.Compose(steps)


def test_bad_steps():
    for steps in ([], [transforms.ColorJitter(0.1)] * 2, [transforms.RandomGrayscale()]):
        with pytest.raises(UserError, match="takes one step"):
            transforms.RandomApply(steps)
    with pytest.raises(UserError, match=r"brightness is \(0.5, 1.5\)"):
        transforms.Compose([CROP, transforms.ColorJitter((0.5, 1.5)), END])
    with pytest.raises(UserError, match=r"kernel_size is \(3, 3\)"):
        transforms.Compose([CROP, transforms.GaussianBlur((3, 3)), END])
