"""ViewSpec: what to draw for one view."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from typing import Any

from sslfast.errors import UserError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
INTERPOLATIONS = ("bilinear", "bicubic")
PROBABILITIES = (
    *("hflip", "vflip", "rotation_probability", "jitter", "grayscale", "blur", "sobel", "solarize"),
    *("noise_salt_pepper", "noise_masking", "channel_drop", "cutout"),
)
PAIRS = (
    *("crop_scale", "crop_ratio", "rotation_range", "blur_sigma"),
    *("channel_drop_count", "cutout_scale", "cutout_ratio"),
)
LISTS = ("rotation", "mean", "std")
MAY_BE_NONE = ("crop_scale", "rotation_range", "stream")
WHOLE_NUMBERS = ("size", "blur_kernel", "channel_drop_count", "stream")
MAX_SIDE = 32768  # of a view, in pixels
MAX_STREAMS = 65536
MAX_VALUE = 2.0**127  # views are computed in float32
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


@dataclass(frozen=True)
class ViewSpec:
    """How one view of every image is drawn; each image draws its own parameters.

    The operations run in the order of the fields. A probability of 0, an empty tuple or None turns one off. Lists and
    other sequences become tuples.

    Attributes:
        size: height and width of the view in pixels, up to 32768 (an int for a square).
        crop_scale: smallest and largest area of the random-resized-crop, as fractions of the image; None crops the
            largest central rectangle of the view's shape instead.
        crop_ratio: smallest and largest width/height of the random-resized-crop.
        center_fraction: side of the central crop as a fraction of the largest one (0.875 is ImageNet's 256 -> 224).
        interpolation: of the resize, "bilinear" or "bicubic", both antialiased.
        hflip, vflip: probability of a horizontal and of a vertical flip.
        rotation: angles in degrees, counter-clockwise, one of which is drawn; a single one is fixed.
        rotation_range: smallest and largest angle in degrees, between which one is drawn; None draws from `rotation`.
        rotation_probability: probability that the view is rotated at all.
        rotation_zoom: magnification about the centre while rotating; sqrt(2) hides the empty corners of 45 degrees.
        jitter: probability of the colour jitter, whose four parts come in an order drawn per image.
        brightness, contrast, saturation: strength s; the factor is drawn from [max(0, 1 - s), 1 + s].
        hue: strength in [0, 0.5]; the shift is drawn from [-hue, hue] turns.
        grayscale: probability of conversion to gray (all channels kept).
        blur: probability of a gaussian blur.
        blur_sigma: smallest and largest standard deviation, in pixels; 0 leaves the view as it is.
        blur_kernel: odd width of the blur's window, in pixels.
        sobel: probability of replacing every channel by the magnitude of its gradient (Sobel's kernels over 8).
        solarize: probability of inverting the values at or above `solarize_threshold`.
        solarize_threshold: in [0, 1].
        noise_gaussian: standard deviation of additive gaussian noise, in [0, 1] units; the result is clipped to [0, 1].
        noise_salt_pepper: fraction of pixels set to 0 or 1 (all channels, with equal chance).
        noise_masking: fraction of pixels set to 0 (all channels).
        channel_drop: probability of setting some channels to 0.
        channel_drop_count: smallest and largest number of dropped channels.
        cutout: probability of setting a rectangle to the data set's mean.
        cutout_scale: smallest and largest area of the rectangle, as fractions of the view.
        cutout_ratio: smallest and largest width/height of the rectangle.
        mean, std: normalisation per channel, for values in [0, 1]; one entry serves all channels.
        stream: views with the same number, 0 to 65535, draw the same values; None gives each view of a list its own.

    Raises:
        UserError: a value of another type, not finite, or outside its range.
    """

    size: int | tuple[int, int] = 224
    crop_scale: tuple[float, float] | None = None
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    center_fraction: float = 1.0
    interpolation: str = "bilinear"
    hflip: float = 0.0
    vflip: float = 0.0
    rotation: tuple[float, ...] = ()
    rotation_range: tuple[float, float] | None = None
    rotation_probability: float = 1.0
    rotation_zoom: float = 1.0
    jitter: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    grayscale: float = 0.0
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    blur_kernel: int = 23
    sobel: float = 0.0
    solarize: float = 0.0
    solarize_threshold: float = 0.5
    noise_gaussian: float = 0.0
    noise_salt_pepper: float = 0.0
    noise_masking: float = 0.0
    channel_drop: float = 0.0
    channel_drop_count: tuple[int, int] = (1, 1)
    cutout: float = 0.0
    cutout_scale: tuple[float, float] = (0.02, 0.33)
    cutout_ratio: tuple[float, float] = (0.3, 3.3)
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    stream: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "interpolation" and not (value is None and field.name in MAY_BE_NONE):
                object.__setattr__(self, field.name, _numbers(field.name, value))
        _require(all(1 <= side <= MAX_SIDE for side in self.shape), "size", self.size, f"1 to {MAX_SIDE} px each way")
        for name in PROBABILITIES:
            _require(0.0 <= getattr(self, name) <= 1.0, name, getattr(self, name), "a probability in [0, 1]")
        for name in ("brightness", "contrast", "saturation", "noise_gaussian"):
            _require(getattr(self, name) >= 0.0, name, getattr(self, name), "0 or more")
        self._check_pairs()
        _require(self.interpolation in INTERPOLATIONS, "interpolation", self.interpolation, "'bilinear' or 'bicubic'")
        _require(0.0 < self.center_fraction <= 1.0, "center_fraction", self.center_fraction, "in (0, 1]")
        _require(len(self.rotation) <= 16, "rotation", self.rotation, "at most 16 angles")
        _require(self.rotation_zoom > 0.0, "rotation_zoom", self.rotation_zoom, "more than 0")
        _require(0.0 <= self.hue <= 0.5, "hue", self.hue, "in [0, 0.5]")
        _require(0.0 <= self.solarize_threshold <= 1.0, "solarize_threshold", self.solarize_threshold, "in [0, 1]")
        _require(self.blur_kernel >= 1 and self.blur_kernel % 2 == 1, "blur_kernel", self.blur_kernel, "an odd number")
        _require(0 <= (self.stream or 0) < MAX_STREAMS, "stream", self.stream, f"0 to {MAX_STREAMS - 1}, or None")
        _require(len(self.mean) >= 1, "mean", self.mean, "one number, or one a channel")
        _require(len(self.mean) == len(self.std), "mean", self.mean, f"as many entries as std ({len(self.std)})")
        _require(all(value > 0.0 for value in self.std), "std", self.std, "more than 0 in every channel")

    def _check_pairs(self) -> None:
        low, high = self.crop_scale or (1.0, 1.0)
        _require(0.0 <= low <= high <= 1.0 and high > 0.0, "crop_scale", (low, high), "0 <= low <= high <= 1, high > 0")
        low, high = self.cutout_scale
        _require(0.0 < low <= high <= 1.0, "cutout_scale", (low, high), "0 < low <= high <= 1")
        for name in ("crop_ratio", "cutout_ratio"):
            low, high = getattr(self, name)
            _require(0.0 < low <= high, name, (low, high), "0 < low <= high")
        low, high = self.blur_sigma
        _require(0.0 <= low <= high, "blur_sigma", (low, high), "0 <= low <= high")
        low, high = self.rotation_range or (0.0, 0.0)
        _require(low <= high, "rotation_range", (low, high), "low <= high")
        unlisted = self.rotation_range is None or not self.rotation
        _require(unlisted, "rotation_range", self.rotation_range, f"None beside the list rotation={self.rotation}")
        least, most = self.channel_drop_count
        _require(0 <= least <= most <= 16, "channel_drop_count", self.channel_drop_count, "0 <= least <= most <= 16")

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the view in pixels."""
        return (self.size, self.size) if isinstance(self.size, int) else (self.size[0], self.size[1])

    def replace(self, **changes: Any) -> ViewSpec:
        """The same view with some fields changed."""
        return replace(self, **changes)


def check_finite(name: str, value: object) -> None:
    """Raises UserError unless `value` is a number that float32 can hold."""
    if not _is_number(value, Real):
        raise UserError(f"{name} is {value!r}; it must be a finite number")


def _is_number(value: Any, kind: type) -> bool:
    if kind is Integral and isinstance(value, bool):
        return False
    return isinstance(value, kind) and bool(abs(value) <= MAX_VALUE)  # type: ignore[arg-type]


def _numbers(field: str, value: Any) -> Any:
    """The value of a field as numbers of Python's own, in a tuple where it is a sequence."""
    several = isinstance(value, Iterable) and not isinstance(value, str)
    numbers = tuple(value) if several else (value,)
    pair = several and len(numbers) == 2
    whole = field in WHOLE_NUMBERS
    kind = "whole number" if whole else "finite number"
    if field in LISTS:
        fits, need = several, f"a tuple of {kind}s"
    elif field in PAIRS:
        fits, need = pair, f"a pair of {kind}s"
    elif field == "size":
        fits, need = pair or not several, f"a {kind} or a pair of them"
    else:
        fits, need = not several, f"a {kind}"
    _require(fits and all(_is_number(x, Integral if whole else Real) for x in numbers), field, value, need)
    numbers = tuple(int(x) if isinstance(x, Integral) else float(x) for x in numbers)
    return numbers if several else numbers[0]


def _require(holds: bool, field: str, value: object, need: str) -> None:
    if not holds:
        raise UserError(f"ViewSpec.{field} is {value!r}; it must be {need}")
