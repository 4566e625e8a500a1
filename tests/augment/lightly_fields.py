"""What lightly's transforms draw, as fields of ViewSpec."""

from typing import Any

import pytest

from sslfast.augment import ViewSpec


def lightly_view(transform: Any) -> dict[str, Any]:
    """What one of lightly's pipelines draws, as fields of ViewSpec."""
    fields: dict[str, Any] = {"mean": (0.0,), "std": (1.0,)}
    for step in flatten(transform):
        kind = type(step).__name__
        if kind == "RandomResizedCrop":
            fields["size"] = tuple(step.size)
            fields["crop_scale"], fields["crop_ratio"] = tuple(step.scale), tuple(step.ratio)
            # An enumeration, or since torchvision 0.29 plain text.
            fields["interpolation"] = getattr(step.interpolation, "value", step.interpolation)
        elif kind == "RandomHorizontalFlip":
            fields["hflip"] = step.p
        elif kind == "RandomVerticalFlip":
            fields["vflip"] = step.p
        elif kind == "RandomApply":
            (jitter,) = step.transforms
            fields["jitter"] = step.p
            for part in ("brightness", "contrast", "saturation"):
                fields[part] = pytest.approx(getattr(jitter, part)[1] - 1)
                assert getattr(jitter, part)[0] == pytest.approx(max(0.0, 2 - getattr(jitter, part)[1]))
            fields["hue"] = pytest.approx(jitter.hue[1])
        elif kind == "RandomGrayscale":
            fields["grayscale"] = step.p
        elif kind == "GaussianBlur":
            fields["blur"], fields["blur_sigma"] = step.prob, tuple(step.sigmas)
        elif kind == "RandomSolarization":
            fields["solarize"], fields["solarize_threshold"] = step.prob, step.threshold / 256
        elif kind == "RandomRotate":
            fields |= rotation(step.prob, rotation=(float(step.angle),))
        elif kind == "RandomRotateDegrees":
            (rotate,) = step.transform.transforms
            fields |= rotation(step.transform.p, rotation_range=tuple(rotate.degrees))
        elif kind == "Normalize":
            fields["mean"], fields["std"] = tuple(step.mean), tuple(step.std)
        else:
            assert kind in ("ToTensor", "ColorJitter"), f"lightly has a step unknown to this test: {step}"
    return fields


def rotation(probability: float, **angles: tuple[float, ...]) -> dict[str, Any]:
    """The fields of a rotation, which all have their defaults where nothing is rotated."""
    fields = {"rotation": (), "rotation_range": None, "rotation_probability": 1.0}
    return fields | angles | {"rotation_probability": probability} if probability else fields


def flatten(transform: Any) -> list[Any]:
    """The steps of nested Compose objects and of lightly's view transforms, which keep theirs in `transform`."""
    if "View" in type(transform).__name__:
        return flatten(transform.transform)
    if type(transform).__name__ == "Compose":
        return [step for inner in transform.transforms for step in flatten(inner)]
    return [transform]


def differences(ours: ViewSpec, theirs: dict[str, Any]) -> dict[str, Any]:
    """Their value of every field of theirs that is not ours."""
    mine = {field: getattr(ours, field) for field in theirs} | {"size": ours.shape}
    return {field: value for field, value in theirs.items() if mine[field] != value}
