"""Image files for the tests of this room, and what images and batches are told apart and compared by."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from sslfast.data import DaliLoader


def load(source, batch_size, **options):
    pytest.importorskip("nvidia.dali")
    return DaliLoader(source, batch_size, **{"threads": 1} | options)


def smooth(height, width, seed=0):
    """(height, width, 3) uint8 without sharp edges, which JPEG keeps nearly as they are."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [128 + 100 * np.sin(3 * x + seed + k) * np.cos(2 * y - k) for k in range(3)]
    return np.stack(waves, axis=-1).round().astype(np.uint8)


def write(path, seed=0, size=(24, 32), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(smooth(*size, seed)).save(path, **options)


def png16(values):
    """(height, width, 3) uint16 as a PNG of 16 bits a channel, which Pillow cannot write."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def reds(images):
    """The red of every image's first pixel."""
    return [int(images.image(position)[0, 0, 0]) for position in range(len(images))]


def close(ours, theirs, worst=0, mean=0.0):
    """Whether two batches are the same but for the rounding of their decoders."""
    assert ours.index.tolist() == theirs.index.tolist() and ours.sizes.tolist() == theirs.sizes.tolist()
    assert ours.channels == theirs.channels and ours.label.tolist() == theirs.label.tolist()
    for position in range(len(ours)):
        difference = (ours.image(position).int() - theirs.image(position).int()).abs()
        assert difference.max() <= worst and difference.float().mean() <= mean
