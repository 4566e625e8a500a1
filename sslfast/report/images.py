"""Pictures as data URIs, so that the page needs no other file."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from sslfast.errors import DataError

THUMBNAIL = 128  # longest side of a thumbnail in pixels
PAGE_WIDTH = 1024  # pixels of a picture that the page shows in full


@dataclass(frozen=True)
class Picture:
    """A picture file of the run.

    Attributes:
        title: from the file's name.
        uri: the file as a data URI.
        width, height: in pixels.
    """

    title: str
    uri: str
    width: int
    height: int

    @property
    def zoom(self) -> int:
        """How many pixels of the page one of the picture fills, so that small pictures can be seen."""
        return max(1, min(4, PAGE_WIDTH // self.width))


def read_pictures(folder: Path) -> list[Picture]:
    """The PNG files of a folder by name, the views first; none when there is no such folder.

    Raises:
        DataError: a file is no readable PNG.
    """
    pictures = []
    for path in sorted(folder.glob("*.png"), key=lambda path: (not path.stem.startswith("view"), path.name)):
        try:
            data = path.read_bytes()
            with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
                image.load()
                width, height = image.size
        except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
            raise DataError(f"cannot read {path}: {error}; remove the file and write the report again") from error
        pictures.append(Picture(path.stem.replace("_", " ").capitalize(), _uri(data), width, height))
    return pictures


def thumbnail(image: Tensor) -> str:
    """A data URI of an image, made no larger than THUMBNAIL.

    Args:
        image: (H, W, C) uint8 in [0, 255]; of other than three channels, the first one is shown in gray.
    """
    pixels = image.cpu().numpy()
    picture = Image.fromarray(pixels if pixels.shape[2] == 3 else np.ascontiguousarray(pixels[:, :, 0]))
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return _uri(buffer.getvalue())


def _uri(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")
