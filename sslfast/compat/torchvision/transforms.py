"""torchvision's random transforms as steps of one fused view (`torchvision.transforms`, version 1 of its interface).

`Compose` takes the steps in the order of self-supervised recipes; anything else stays imported from torchvision.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torchvision.transforms import InterpolationMode

from sslfast.augment import ViewSpec
from sslfast.compat.pending import PerImage
from sslfast.errors import UserError

__all__ = [
    "ColorJitter",
    "Compose",
    "GaussianBlur",
    "InterpolationMode",
    "Normalize",
    "RandomApply",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "RandomVerticalFlip",
    "ToTensor",
]

_ORDER = (
    "it takes, each at most once and in this order, RandomResizedCrop, any of ColorJitter, RandomGrayscale and "
    "GaussianBlur, ToTensor, and Normalize if wanted; flips stand anywhere behind the crop; import other "
    "pipelines from torchvision"
)


class Step(ABC):
    """A part of `Compose`: the fields of ViewSpec that it sets.

    Attributes:
        rank: its place in a view; ranks must rise.
        probability: the field that `RandomApply` sets, None where the step is always taken.
    """

    rank: ClassVar[int]
    probability: ClassVar[str | None] = None

    @abstractmethod
    def fields(self) -> dict[str, Any]:
        """Fields of ViewSpec and their values."""


@dataclass(frozen=True)
class RandomResizedCrop(Step):
    """A part of the image of random area and shape, resized to `size` pixels."""

    size: int | Sequence[int]
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: InterpolationMode = InterpolationMode.BILINEAR
    antialias: bool | None = True
    rank = 0

    def fields(self) -> dict[str, Any]:
        size = self.size if isinstance(self.size, int) else tuple(self.size) * (2 if len(self.size) == 1 else 1)
        crop = {"crop_scale": tuple(self.scale), "crop_ratio": tuple(self.ratio)}
        return {"size": size, "interpolation": InterpolationMode(self.interpolation).value, **crop}


@dataclass(frozen=True)
class RandomHorizontalFlip(Step):
    """Mirrors left and right with probability `p`."""

    p: float = 0.5
    rank = 1

    def fields(self) -> dict[str, Any]:
        return {"hflip": self.p}


@dataclass(frozen=True)
class RandomVerticalFlip(Step):
    """Mirrors top and bottom with probability `p`."""

    p: float = 0.5
    rank = 2

    def fields(self) -> dict[str, Any]:
        return {"vflip": self.p}


@dataclass(frozen=True)
class ColorJitter(Step):
    """Colour jitter with strengths as numbers."""

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    rank = 3
    probability = "jitter"

    def fields(self) -> dict[str, Any]:
        strengths = {name: getattr(self, name) for name in ("brightness", "contrast", "saturation", "hue")}
        for name, strength in strengths.items():
            if not isinstance(strength, int | float):
                raise UserError(f"ColorJitter: {name} is {strength!r}; it must be one number, drawn around 1 (hue: 0)")
        return {"jitter": 1.0, **strengths}


@dataclass(frozen=True)
class RandomGrayscale(Step):
    """Conversion to gray with probability `p`."""

    p: float = 0.1
    rank = 4

    def fields(self) -> dict[str, Any]:
        return {"grayscale": self.p}


@dataclass(frozen=True)
class GaussianBlur(Step):
    """Gaussian blur with a square window of `kernel_size` pixels."""

    kernel_size: int
    sigma: float | tuple[float, float] = (0.1, 2.0)
    rank = 5
    probability = "blur"

    def fields(self) -> dict[str, Any]:
        if not isinstance(self.kernel_size, int):
            raise UserError(f"GaussianBlur: kernel_size is {self.kernel_size!r}; it must be one odd number of pixels")
        sigma = self.sigma if isinstance(self.sigma, Sequence) else (self.sigma, self.sigma)
        return {"blur": 1.0, "blur_kernel": self.kernel_size, "blur_sigma": tuple(sigma)}


@dataclass(frozen=True)
class ToTensor(Step):
    """Values in [0, 1]."""

    rank = 6

    def fields(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class Normalize(Step):
    """Subtracts `mean` and divides by `std`, channel by channel."""

    mean: Sequence[float]
    std: Sequence[float]
    inplace: bool = False
    rank = 7

    def fields(self) -> dict[str, Any]:
        return {"mean": tuple(self.mean), "std": tuple(self.std)}


class RandomApply(Step):
    """One step, ColorJitter or GaussianBlur, with probability `p`."""

    def __init__(self, transforms: Sequence[Step], p: float = 0.5) -> None:
        if len(transforms) != 1 or transforms[0].probability is None:
            raise UserError(f"RandomApply of {transforms!r}; it takes one step, ColorJitter or GaussianBlur")
        self.step, self.p = transforms[0], p
        self.rank = self.step.rank  # type: ignore[misc]

    def fields(self) -> dict[str, Any]:
        assert self.step.probability is not None
        return self.step.fields() | {self.step.probability: self.p}


class Compose(PerImage):
    """The steps as one view of one image, which `sslfast.compat.torch.DataLoader` draws for whole batches.

    Args:
        transforms: RandomResizedCrop; any of ColorJitter, RandomGrayscale and GaussianBlur; ToTensor; and Normalize if
            wanted: in this order. RandomHorizontalFlip and RandomVerticalFlip stand anywhere behind the crop.

    Raises:
        UserError: other steps, another order, or a value that cannot be drawn.
    """

    one_view = True

    def __init__(self, transforms: Sequence[Step]) -> None:
        fields: dict[str, Any] = {"mean": (0.0,), "std": (1.0,)}
        for step in transforms:
            if not isinstance(step, Step):
                raise UserError(f"Compose: {step!r} is no step of a fused view; {_ORDER}")
            fields |= step.fields()
        ranks = [step.rank for step in transforms]
        # A flip commutes with every step but the crop.
        ordered = [step.rank for step in transforms if not isinstance(step, RandomHorizontalFlip | RandomVerticalFlip)]
        twice = len(set(ranks)) < len(ranks)
        if twice or ordered != sorted(ordered) or ranks[:1] != [RandomResizedCrop.rank] or ToTensor.rank not in ranks:
            raise UserError(f"Compose of {[type(step).__name__ for step in transforms]}; {_ORDER}")
        super().__init__([ViewSpec(**fields)])
