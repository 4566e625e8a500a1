"""Presets: the papers' numbers, field by field against lightly's transforms and solo-learn's configuration files.

Where they differ the paper wins, and where the paper is silent its authors' code, except for SimCLR's resize (below).
Every difference is listed with its reason. Not a field, so not compared: lightly solarizes VICReg's views before the
blur, VICReg's paper and ours after it.
"""

from collections.abc import Callable
from typing import Any

import pytest
from augment.lightly_fields import differences, lightly_view

from sslfast.augment import ViewSpec, presets
from sslfast.augment.spec import CIFAR_MEAN, CIFAR_STD, IMAGENET_MEAN, IMAGENET_STD
from sslfast.registry import PRESETS, resolve

RECIPES = ("simclr", "moco_v1", "moco_v2", "simsiam", "byol", "barlow_twins", "vicreg", "swav", "dino")

# (preset, view or None for all, field): (lightly's value, why ours is another).
LIGHTLY_DIFFERS = {
    ("moco_v1", None, "jitter"): (0.8, "the authors' code jitters every image (He et al. 2020, section 3.3)"),
    **{
        (name, None, "interpolation"): ("bilinear", "BYOL resizes bicubically (Grill et al. 2020, appendix B)")
        for name in ("byol", "barlow_twins")
    },
}
LIGHTLY_VIEWS = {"dino": (8, "the authors' code draws 8 local views by default, not 6")}  # total, reason

BICUBIC = "solo-learn resizes bicubically throughout; the authors' code is bilinear"
SIMCLR_RESIZE = "the paper names no interpolation; bilinear as in lightly, though the authors' code is bicubic"

# solo-learn at 9187ea3 (22 April 2026), scripts/pretrain/<data>/augmentations/<file>.yaml:
# crop_min_scale, (brightness, contrast, saturation, hue), gaussian_blur, solarization of each view. All have
# crop_max_scale 1, colour jitter 0.8, grayscale 0.2, flip 0.5; all resize bicubically, blur with sigma 0.1 to 2 and
# solarize at 128 (solo/data/pretrain_dataloader.py).
WEAK, STRONG, ASYMMETRIC = (0.4, 0.4, 0.4, 0.1), (0.8, 0.8, 0.8, 0.2), (0.4, 0.4, 0.2, 0.1)
SOLO_IMAGENET = {
    "simclr": [(0.08, STRONG, 0.5, 0.0)] * 2,  # imagenet-100/symmetric
    "moco_v2": [(0.08, WEAK, 0.5, 0.0)] * 2,  # imagenet/symmetric_weak
    "simsiam": [(0.08, ASYMMETRIC, 1.0, 0.0), (0.08, ASYMMETRIC, 0.1, 0.2)],  # imagenet-100/asymmetric
    "byol": [(0.08, ASYMMETRIC, 1.0, 0.0), (0.08, ASYMMETRIC, 0.1, 0.2)],  # imagenet/asymmetric
    "barlow_twins": [(0.08, ASYMMETRIC, 1.0, 0.0), (0.08, ASYMMETRIC, 0.1, 0.2)],  # imagenet/asymmetric
    "vicreg": [(0.2, ASYMMETRIC, 0.5, 0.1)] * 2,  # imagenet-100/vicreg
    "swav": [(0.08, STRONG, 0.5, 0.0)] * 2,  # imagenet-100/symmetric: no multi-crop
    "dino": [(0.08, ASYMMETRIC, 1.0, 0.0), (0.08, ASYMMETRIC, 0.1, 0.2)],  # imagenet-100/asymmetric: no multi-crop
}
SOLO_CIFAR = {
    "simclr": [(0.08, STRONG, 0.5, 0.0)] * 2,  # cifar/symmetric
    "moco_v2": [(0.08, WEAK, 0.5, 0.0)] * 2,  # cifar/symmetric_weak
    "simsiam": [(0.08, WEAK, 0.5, 0.0)] * 2,  # cifar/symmetric_weak
    "byol": [(0.08, ASYMMETRIC, 0.0, 0.0), (0.08, ASYMMETRIC, 0.0, 0.2)],  # cifar/asymmetric
    "barlow_twins": [(0.08, ASYMMETRIC, 0.0, 0.0), (0.08, ASYMMETRIC, 0.0, 0.2)],  # cifar/asymmetric
    "vicreg": [(0.2, ASYMMETRIC, 0.0, 0.1)] * 2,  # cifar/vicreg.yaml itself
    "swav": [(0.08, STRONG, 0.5, 0.0)] * 2,  # cifar/symmetric: no multi-crop
    "dino": [(0.08, ASYMMETRIC, 0.0, 0.0), (0.08, ASYMMETRIC, 0.0, 0.2)],  # cifar/asymmetric: no multi-crop
}
MOCO_CROP = "MoCo v2's and SimSiam's authors crop from 20 % of the area (Chen and He 2021, appendix A)"
SIMSIAM = "SimSiam's views are alike, with MoCo v2's colours and no solarization (Chen and He 2021, appendix A)"
MULTI_CROP = "solo-learn's large crops are not narrowed for multi-crop as the authors' are"
NO_BLUR = "no blur on CIFAR (Chen et al. 2020, appendix B.9; Chen and He 2021, appendix D)"
HALF = "half the colour strength on CIFAR (Chen et al. 2020, appendix B.9)"
VICREG_RESIZE = "the paper's call of RandomResizedCrop is bilinear (Bardes et al. 2022, appendix C.1)"
VICREG = "the crop is from 8 % of the area (Bardes et al. 2022, appendix C.1)"
# (preset, view or None for all, field): why ours is another than solo-learn's value.
SOLO_IMAGENET_DIFFERS = {
    ("simclr", None, "interpolation"): SIMCLR_RESIZE,
    **{(name, None, "interpolation"): BICUBIC for name in ("moco_v2", "simsiam", "swav")},
    ("vicreg", None, "interpolation"): VICREG_RESIZE,
    ("moco_v2", None, "crop_scale"): MOCO_CROP,
    ("simsiam", None, "crop_scale"): MOCO_CROP,
    ("simsiam", None, "saturation"): SIMSIAM,
    ("simsiam", None, "blur"): SIMSIAM,
    ("simsiam", 1, "solarize"): SIMSIAM,
    ("vicreg", None, "crop_scale"): VICREG,
    ("swav", None, "crop_scale"): MULTI_CROP,
    ("dino", None, "crop_scale"): MULTI_CROP,
}
SOLO_CIFAR_DIFFERS = {
    ("simclr", None, "interpolation"): SIMCLR_RESIZE,
    **{(name, None, "interpolation"): BICUBIC for name in ("moco_v2", "simsiam", "swav")},
    ("vicreg", None, "interpolation"): VICREG_RESIZE,
    **{(name, None, "blur"): NO_BLUR for name in ("simclr", "moco_v2", "simsiam", "swav")},
    **{
        (name, None, part): HALF
        for name in ("simclr", "swav")
        for part in ("brightness", "contrast", "saturation", "hue")
    },
    ("moco_v2", None, "crop_scale"): MOCO_CROP,
    ("simsiam", None, "crop_scale"): MOCO_CROP,
    ("vicreg", None, "crop_scale"): VICREG,
    ("swav", None, "crop_scale"): MULTI_CROP,
    ("dino", None, "crop_scale"): MULTI_CROP,
}


def expand(table: dict, name: str, view: int) -> dict[str, Any]:
    return {field: entry for (preset, at, field), entry in table.items() if preset == name and at in (None, view)}


@pytest.mark.parametrize("name", RECIPES)
def test_fields_equal_lightly(name):
    transforms = pytest.importorskip("lightly.transforms")
    from lightly.transforms import moco_transform

    theirs: dict[str, Callable] = {
        "simclr": transforms.SimCLRTransform,
        "moco_v1": moco_transform.MoCoV1Transform,
        "moco_v2": transforms.MoCoV2Transform,
        "simsiam": transforms.SimSiamTransform,
        "byol": transforms.BYOLTransform,
        "barlow_twins": transforms.BYOLTransform,  # lightly trains Barlow Twins with it
        "vicreg": transforms.VICRegTransform,
        "swav": transforms.SwaVTransform,
        "dino": transforms.DINOTransform,
    }
    views = [lightly_view(view) for view in theirs[name]().transforms]
    ours = resolve("presets", name)(224)
    if name in LIGHTLY_VIEWS:
        assert len(views) != len(ours), "lightly agrees by now: take the entry out of LIGHTLY_VIEWS"
        views += [views[-1]] * (len(ours) - len(views))
    assert len(ours) == len(views)
    for position, (mine, fields) in enumerate(zip(ours, views, strict=True)):
        listed = {field: value for field, (value, _) in expand(LIGHTLY_DIFFERS, name, position).items()}
        assert differences(mine, fields) == listed, f"view {position}"


@pytest.mark.parametrize("name", SOLO_IMAGENET)
@pytest.mark.parametrize(
    ("size", "numbers", "listed"),
    [(224, SOLO_IMAGENET, SOLO_IMAGENET_DIFFERS), (32, SOLO_CIFAR, SOLO_CIFAR_DIFFERS)],
    ids=["imagenet", "cifar"],
)
def test_fields_equal_solo_learn(name, size, numbers, listed):
    ours = resolve("presets", name)(size)[:2]
    statistics = (CIFAR_MEAN, CIFAR_STD) if size == 32 else (IMAGENET_MEAN, IMAGENET_STD)
    for position, (mine, (scale, colour, blur, solarize)) in enumerate(zip(ours, numbers[name], strict=True)):
        theirs = {
            "size": (size, size),
            "crop_scale": (scale, 1.0),
            "crop_ratio": (3 / 4, 4 / 3),
            "interpolation": "bicubic",
            "hflip": 0.5,
            "vflip": 0.0,
            "jitter": 0.8,
            **dict(zip(("brightness", "contrast", "saturation", "hue"), colour, strict=True)),
            "grayscale": 0.2,
            "blur": blur,
            "blur_sigma": (0.1, 2.0),
            "solarize": solarize,
            "solarize_threshold": 0.5,
            "mean": statistics[0],
            "std": statistics[1],
        }
        assert set(differences(mine, theirs)) == set(expand(listed, name, position)), f"view {position}"


def test_numbers_that_neither_has():
    """The papers' blur windows, and what the recipes leave out."""
    for name in RECIPES:
        for view in resolve("presets", name)(224):
            assert view.blur_kernel == 23  # SimCLR and BYOL: 10 % of the side; multi-crop: that of the large views
            off = ("vflip", "sobel", "noise_gaussian", "noise_salt_pepper", "noise_masking", "channel_drop", "cutout")
            assert all(getattr(view, field) == 0.0 for field in off)
            assert view.rotation == () and view.stream is None


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("size", [32, 64, 65, 96])
def test_small_images(name, size):
    views = resolve("presets", name)(size)
    if size <= presets.SMALL_IMAGE:
        assert all(view.blur == 0.0 and (view.mean, view.std) == (CIFAR_MEAN, CIFAR_STD) for view in views)
    else:
        assert [view.blur for view in views] == [view.blur for view in resolve("presets", name)(224)]
        assert all((view.mean, view.std) == (IMAGENET_MEAN, IMAGENET_STD) for view in views)


@pytest.mark.parametrize(("name", "count"), [("swav", 6), ("dino", 8)])
def test_multi_crop_sizes_and_counts(name, count):
    preset = resolve("presets", name)
    assert [view.size for view in preset()] == [224] * 2 + [96] * count
    assert [view.size for view in preset(32)] == [32] * 2 + [14] * count
    assert [view.size for view in preset(160, local_size=64, local_views=3)] == [160] * 2 + [64] * 3
    assert [view.size for view in preset(local_views=0)] == [224] * 2
    large, local = preset(224, local_size=48)[0], preset(224, local_size=48)[-1]
    assert (local.mean, local.std) == (large.mean, large.std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert local.blur == 0.5  # the large views decide whether images are small


@pytest.mark.parametrize("name", ["simclr", "swav"])
def test_strength(name):
    view = resolve("presets", name)(224, strength=0.25)[0]
    assert (view.brightness, view.contrast, view.saturation, view.hue) == (0.2, 0.2, 0.2, 0.05)


def test_byol_views_differ():
    first, second = presets.byol()
    assert (first.blur, first.solarize, second.blur, second.solarize) == (1.0, 0.0, 0.1, 0.2)
    assert first.replace(blur=second.blur, solarize=second.solarize) == second


def test_supervised():
    """Szegedy et al. 2015 as in torchvision's references: crop and flip alone."""
    (large,), (small,) = presets.supervised(224), presets.supervised(32)
    assert large == ViewSpec(size=224, crop_scale=(0.08, 1.0), hflip=0.5)
    assert small == ViewSpec(size=32, crop_scale=(0.2, 1.0), hflip=0.5, mean=CIFAR_MEAN, std=CIFAR_STD)


def test_every_recipe_is_registered():
    assert set(RECIPES) <= set(PRESETS)
