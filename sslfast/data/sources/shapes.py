"""Shapes: an embedded data set of rendered scenes: ten classes of coloured, textured, lit objects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy import ndarray

from sslfast.data.batch import ImageBatch
from sslfast.data.sources import check_choice, check_number, check_seed
from sslfast.errors import UserError

SPLITS = ("train", "test")
COUNTS = {"train": 10_000, "test": 2_000}
DRAWS = 64  # random numbers drawn for an image; a scene uses 60
CHUNK_PIXELS = 1 << 17  # pixels rendered at a time: the working arrays stay in the cache


class Shapes:
    """Rendered scenes: one object of ten classes, on a textured background with clutter; nothing is downloaded.

    The class is the object's form. Its place, size, tilt, proportions, colours and texture, the light, the background
    and the clutter are drawn per image by a counter-based generator keyed by (seed, split, index): the same index is
    the same image in any set, order and process, and the same scene at any size. Labels take turns, so any first part
    of the data set holds the classes in equal parts.

    Args:
        root: None; the scenes lie in no folder.
        split: "train" or "test", which share no image.
        limit: only the first so many images; 0 takes all.
        size: height and width in pixels.
        count: number of images; 10,000 of "train" and 2,000 of "test" when absent.
        seed: names another data set of the same kind, any 64-bit integer.

    Attributes:
        classes: the ten names.

    Raises:
        UserError: an option outside its range.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        split: str = "train",
        *,
        limit: int = 0,
        size: int = 32,
        count: int | None = None,
        seed: int = 0,
    ) -> None:
        if root is not None:
            raise UserError(f"data 'shapes' is rendered, not read: leave out root (got {str(root)!r})")
        check_choice("split", split, SPLITS)
        check_number("limit", limit, 0)
        check_number("size", size, 8)
        check_seed(seed)
        count = COUNTS[split] if count is None else count
        check_number("count", count, 1)
        self.split = split
        self.size = size
        self.seed = seed
        self.count = min(count, limit or count)
        self.classes: list[str] | None = list(FORMS)

    def __len__(self) -> int:
        return self.count

    def read(self) -> ImageBatch:
        """All images, rendered on the CPU: (size, size, 3) each."""
        index = np.arange(self.count)
        images = render(index, self.split, self.size, self.seed)
        return ImageBatch.from_dense(torch.from_numpy(images), label=torch.from_numpy(index % len(FORMS)))


def render(index: ndarray, split: str = "train", size: int = 32, seed: int = 0) -> ndarray:
    """The scenes at any positions: index (N,) whole numbers -> (N, size, size, 3) uint8; the class is index % 10."""
    images = np.empty((len(index), size, size, 3), np.uint8)
    chunk = max(1, CHUNK_PIXELS // size**2)
    for form, signed_distance in enumerate(FORMS.values()):
        rows = np.flatnonzero(index % len(FORMS) == form)
        for begin in range(0, len(rows), chunk):
            part = rows[begin : begin + chunk]
            images[part] = _render_form(signed_distance, _Draws(index[part], split, seed), size)
    return images


class _Draws:
    """The random numbers of some images: each call hands out the next one of every image, as (N, 1, 1) float32."""

    def __init__(self, index: ndarray, split: str, seed: int) -> None:
        key = np.array([seed % 2**64, SPLITS.index(split)], np.uint64)
        # The counter's lowest word counts an image's own numbers, the next one the images.
        streams = (np.random.Philox(key=key, counter=[0, position, 0, 0]) for position in index.tolist())
        self._columns = iter(np.stack([np.random.Generator(stream).random(DRAWS, np.float32) for stream in streams]).T)

    def __call__(self, low: float = 0.0, high: float = 1.0) -> ndarray:
        return (low + (high - low) * next(self._columns))[:, None, None]

    def angle(self, largest: float = np.pi) -> tuple[ndarray, ndarray]:
        """Cosine and sine of an angle in [-largest, largest] radians."""
        angle = self(-largest, largest)
        return np.cos(angle), np.sin(angle)


def _render_form(signed_distance: Callable[[ndarray, ndarray], ndarray], draw: _Draws, size: int) -> ndarray:
    # The picture spans [-1, 1] both ways, x to the right and y down; a pixel is sampled at its centre.
    axis = (np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1
    x, y = axis[None, None, :], axis[None, :, None]
    pixel = 2 / size

    light_x, light_y = draw.angle()
    brightness = draw(0.15, 0.8)
    ground = _texture(draw, x, y, brightness, 0.25)
    ground = [channel * (1 + 0.25 * (light_x * x + light_y * y)) for channel in ground]
    for _ in range(3):
        ground = _clutter(draw, ground, x, y, pixel)

    # The object's own coordinates: centre, tilt, radius and proportions.
    radius = draw(0.52, 0.78)
    center_x, center_y = draw(-0.25, 0.25), draw(-0.25, 0.25)
    cos, sin = draw.angle(np.pi / 9)
    squeeze = draw(0.85, 1.15)

    def distance(x: ndarray, y: ndarray) -> ndarray:
        u, v = (x - center_x) / radius, (y - center_y) / radius
        return signed_distance((cos * u + sin * v) * squeeze, (cos * v - sin * u) / squeeze)

    surface = distance(x, y)
    shadow = draw(0.1, 0.25)
    dark = 1 - draw(0.3, 0.6) * _smooth(0.5 - 3 * distance(x + shadow * light_x, y + shadow * light_y))
    cover = np.clip(0.5 - surface * (radius / pixel), 0, 1)

    lambert = _facing(surface, draw(0.25, 0.45), light_x, light_y, draw(0.5, 0.85))
    shade, gloss = 0.4 + 0.8 * lambert, draw(0, 0.6) * lambert**24
    # Well darker or lighter than the ground: the form shows, and which of the two tells nothing about it.
    paint = _texture(draw, x, y, np.maximum((brightness + draw(0.35, 0.65)) % 1, 0.22), 0.2)

    scene = np.empty((*surface.shape, 3), np.uint8)
    for position, (back, front) in enumerate(zip(ground, paint, strict=True)):
        back = back * dark
        mixed = back + cover * (front * shade + gloss - back)
        scene[..., position] = np.clip(mixed, 0, 1) * 255 + 0.5
    return scene


def _facing(surface: ndarray, bevel: ndarray, light_x: ndarray, light_y: ndarray, height: ndarray) -> ndarray:
    """Cosine between the surface and the light, 0 where it faces away, on an object with a rounded rim.

    The normal leans outwards at the edge, along the distance's gradient, and is upright `bevel` further in.
    """
    lean = np.clip(1 + surface / bevel, 0, 0.98)
    down, right = np.gradient(surface, axis=(1, 2))
    outwards = (right * light_x + down * light_y) / np.maximum(np.hypot(down, right), 1e-6)
    return np.maximum(np.sqrt(1 - height**2) * lean * outwards + height * np.sqrt(1 - lean**2), 0)


def _texture(draw: _Draws, x: ndarray, y: ndarray, brightness: ndarray, contrast: float) -> list[ndarray]:
    """Three channels of stripes, checks or marble in two colours, at a drawn angle and frequency."""
    cos, sin = draw.angle()
    frequency = draw(3, 12)  # radians over half the picture
    u, v = cos * x + sin * y, cos * y - sin * x
    stripes = np.sin(frequency * u + draw(0, 6.28))
    across = np.sin(frequency * v + draw(0, 6.28))
    kind = draw(0, 3)
    marble = np.sin(frequency * 0.5 * u + 2 * across)
    wave = np.where(kind < 1, stripes, np.where(kind < 2, stripes * across, marble))
    first = _color(draw, brightness)
    second = _color(draw, brightness + draw(-contrast, contrast))
    mix = 0.5 + 0.5 * wave
    return [a + (b - a) * mix for a, b in zip(first, second, strict=True)]


def _color(draw: _Draws, brightness: ndarray) -> list[ndarray]:
    hue, saturation = draw(0, 6), draw(0.1, 0.8)
    value = np.clip(brightness, 0.05, 1)
    return [value * (1 - saturation * np.clip(2 - np.abs((hue + k) % 6 - 3), 0, 1)) for k in (0, 2, 4)]


def _clutter(draw: _Draws, ground: list[ndarray], x: ndarray, y: ndarray, pixel: float) -> list[ndarray]:
    """Lays one small rounded bar or blob over the ground."""
    cos, sin = draw.angle()
    u, v = x - draw(-1, 1), y - draw(-1, 1)
    rim = draw(0.03, 0.1)
    length, width = draw(0, 0.25), draw(0, 0.12)
    distance = np.hypot(
        np.maximum(np.abs(cos * u + sin * v) - length, 0), np.maximum(np.abs(cos * v - sin * u) - width, 0)
    )
    cover = np.clip(0.5 + (rim - distance) / pixel, 0, 1)
    color = _color(draw, draw(0.1, 0.9))
    return [back + cover * (front - back) for back, front in zip(ground, color, strict=True)]


def _smooth(value: ndarray) -> ndarray:
    value = np.clip(value, 0, 1)
    return value * value * (3 - 2 * value)


# The forms, as signed distances: (u, v) in the unit disc, about it; negative inside.


def _box(u: ndarray, v: ndarray, half_u: float, half_v: float, rim: float = 0.0) -> ndarray:
    a, b = np.abs(u) - (half_u - rim), np.abs(v) - (half_v - rim)
    return np.hypot(np.maximum(a, 0), np.maximum(b, 0)) + np.minimum(np.maximum(a, b), 0) - rim


def _fold(u: ndarray, v: ndarray, times: int) -> tuple[ndarray, ndarray]:
    """Folds the plane `times` round the centre: every ray comes to lie about the one that points up."""
    sector = 2 * np.pi / times
    angle, radius = np.arctan2(u, -v), np.hypot(u, v)
    angle = angle - sector * np.round(angle / sector)
    return radius * np.sin(angle), radius * np.cos(angle)


def _ball(u: ndarray, v: ndarray) -> ndarray:
    return np.hypot(u, v) - 0.85


def _ring(u: ndarray, v: ndarray) -> ndarray:
    return np.abs(np.hypot(u, v) - 0.7) - 0.22


def _square(u: ndarray, v: ndarray) -> ndarray:
    return _box(u, v, 0.78, 0.78, 0.08)


def _frame(u: ndarray, v: ndarray) -> ndarray:
    return np.abs(_box(u, v, 0.65, 0.65)) - 0.17


def _triangle(u: ndarray, v: ndarray) -> ndarray:
    _, reach = _fold(u, -v, 3)
    return reach - 0.5


def _star(u: ndarray, v: ndarray) -> ndarray:
    across, reach = _fold(u, v, 5)
    return 0.85 * (np.abs(across) + 0.4 * reach - 0.42)


def _cross(u: ndarray, v: ndarray) -> ndarray:
    return np.minimum(_box(u, v, 0.95, 0.27, 0.05), _box(u, v, 0.27, 0.95, 0.05))


def _crescent(u: ndarray, v: ndarray) -> ndarray:
    return np.maximum(np.hypot(u, v) - 0.9, 0.72 - np.hypot(u, v + 0.45))


def _gear(u: ndarray, v: ndarray) -> ndarray:
    across, reach = _fold(u, v, 8)
    return np.minimum(np.hypot(u, v) - 0.66, _box(across, reach - 0.7, 0.15, 0.24))


def _wave(u: ndarray, v: ndarray) -> ndarray:
    return np.maximum(0.5 * np.abs(v - 0.45 * np.sin(5.8 * u)) - 0.16, np.abs(u) - 0.85)


FORMS: dict[str, Callable[[ndarray, ndarray], ndarray]] = {
    "ball": _ball,
    "crescent": _crescent,
    "cross": _cross,
    "frame": _frame,
    "gear": _gear,
    "ring": _ring,
    "square": _square,
    "star": _star,
    "triangle": _triangle,
    "wave": _wave,
}
