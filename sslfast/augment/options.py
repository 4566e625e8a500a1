"""lightly's names for what a view is drawn from, and what they change in a ViewSpec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from sslfast.augment.spec import ViewSpec, check_finite
from sslfast.errors import UserError
from sslfast.registry import nearest


class SharedOptions(TypedDict, total=False):
    """lightly's names for what every view is drawn from; one that is not given keeps the paper's value.

    Attributes:
        cj_prob: probability of the colour jitter.
        cj_strength: multiplies the four strengths that follow.
        cj_bright, cj_contrast, cj_sat, cj_hue: strengths of the colour jitter's parts.
        random_gray_scale: probability of conversion to gray.
        kernel_size: odd width of the blur's window in pixels; 10 % of the (largest) view's side when None.
        sigmas: smallest and largest standard deviation of the blur in pixels.
        vf_prob, hf_prob: probability of a vertical and of a horizontal flip.
        rr_prob: probability of a rotation.
        rr_degrees: angles in degrees, counter-clockwise: one from `low` to `high` for (low, high), one from -d to d for
            a number d, and 90 when None. Other angles than multiples of 90 are resampled bilinearly.
        normalize: {"mean": …, "std": …} per channel for values in [0, 1]; None leaves the values in [0, 1].
    """

    cj_prob: float
    cj_strength: float
    cj_bright: float
    cj_contrast: float
    cj_sat: float
    cj_hue: float
    random_gray_scale: float
    kernel_size: int | None
    sigmas: tuple[float, float]
    vf_prob: float
    hf_prob: float
    rr_prob: float
    rr_degrees: float | tuple[float, float] | None
    normalize: Mapping[str, Sequence[float]] | None


class ViewOptions(SharedOptions, total=False):
    """The shared options, and those that multi-crop sets for each kind of view.

    Attributes:
        min_scale: smallest area of the random-resized-crop, as a fraction of the image.
        gaussian_blur: probability of a gaussian blur.
        solarize_prob, solarization_prob: probability of solarization (VICReg's name and BYOL's).
    """

    min_scale: float
    gaussian_blur: float
    solarize_prob: float
    solarization_prob: float


_FIELDS = {
    "cj_prob": "jitter",
    "random_gray_scale": "grayscale",
    "gaussian_blur": "blur",
    "solarize_prob": "solarize",
    "solarization_prob": "solarize",
    "vf_prob": "vflip",
    "hf_prob": "hflip",
}
_STRENGTHS = {"cj_bright": "brightness", "cj_contrast": "contrast", "cj_sat": "saturation", "cj_hue": "hue"}


def with_options(view: ViewSpec, strength: float, options: Mapping[str, Any], names: type) -> ViewSpec:
    """The view with the options named in `names`; its own colours are those of a `cj_strength` of `strength`."""
    valid = list(names.__annotations__)
    for name in options:
        if name not in valid:
            raise UserError(f"unknown option {name!r}; {nearest(name, valid)}")
    changes: dict[str, Any] = {field: options[name] for name, field in _FIELDS.items() if name in options}
    chosen = options.get("cj_strength", strength)
    for name in ("cj_strength", *_STRENGTHS, "rr_prob"):
        check_finite(name, options.get(name, 0.0))
    for name, field in _STRENGTHS.items():
        if name in options or chosen != strength:
            changes[field] = chosen * options.get(name, getattr(view, field) / strength)
    if "min_scale" in options:
        changes["crop_scale"] = (options["min_scale"], 1.0)
    if options.get("kernel_size") is not None:
        changes["blur_kernel"] = options["kernel_size"]
    if "sigmas" in options:
        changes["blur_sigma"] = options["sigmas"]
    if "normalize" in options:
        statistics = options["normalize"] or {"mean": (0.0,), "std": (1.0,)}
        if not isinstance(statistics, Mapping) or set(statistics) != {"mean", "std"}:
            raise UserError(f"normalize is {statistics!r}; it must be {{'mean': …, 'std': …}}, or None")
        changes.update(statistics)
    changes |= _rotation(options.get("rr_prob", 0.0), options.get("rr_degrees"))
    return view.replace(**changes)


def _rotation(probability: float, degrees: float | tuple[float, float] | None) -> dict[str, Any]:
    """The fields of a rotation by lightly's rule: 90 degrees, up to so many either way, or in a range."""
    if probability == 0.0:
        return {}
    if degrees is None:
        return {"rotation": (90.0,), "rotation_probability": probability}
    if isinstance(degrees, str) or not isinstance(degrees, Sequence):
        check_finite("rr_degrees", degrees)
        if degrees < 0.0:
            raise UserError(f"rr_degrees is {degrees!r}; it must be 0 or more, or (smallest angle, largest angle)")
        degrees = (-degrees, degrees)
    return {"rotation_range": degrees, "rotation_probability": probability}
