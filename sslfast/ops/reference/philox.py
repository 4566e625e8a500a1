"""Philox4x32-10 in plain Python and numpy, and the noise drawn from it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
MASK = 0xFFFFFFFF


def philox(key: int, counter: tuple[np.ndarray | int, ...]) -> list[np.ndarray]:
    """Four arrays of 32-bit words (as uint64) from a 64-bit key and counters that broadcast (Salmon et al. 2011)."""
    c = [np.asarray(value, dtype=np.uint64) for value in counter]
    k = [key & MASK, (key >> 32) & MASK]
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(MULTIPLIERS[0]), c[2] * np.uint64(MULTIPLIERS[1])
        shift, mask = np.uint64(32), np.uint64(MASK)
        c = [
            (p1 >> shift) ^ c[1] ^ np.uint64(k[0]),
            p1 & mask,
            (p0 >> shift) ^ c[3] ^ np.uint64(k[1]),
            p0 & mask,
        ]
        k = [(k[i] + WEYL[i]) & MASK for i in range(2)]
    return c


def _words(key: int, stream: int, count: int) -> np.ndarray:
    blocks = np.arange((count + 3) // 4, dtype=np.uint64)
    return np.stack(np.broadcast_arrays(*philox(key, (blocks, stream, 0, 0))), axis=1).reshape(-1)[:count]


def pixel_noise(view: Tensor, key: int, gaussian: float, salt_pepper: float, masking: float) -> Tensor:
    """A (C, H, W) view in [0, 1] after gaussian, salt-and-pepper and masking noise of stream `key`."""
    if gaussian > 0:
        words = _words(key, 0, (view.numel() + 3) // 4 * 4).reshape(-1, 2) >> np.uint64(8)
        radius = np.sqrt(-2 * np.log((words[:, 0] + 1.0) * 2.0**-24))
        angle = words[:, 1] * 2.0**-24 * 2 * np.pi
        normal = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)[: view.numel()]
        view = (view + gaussian * torch.from_numpy(normal).float().view(view.shape)).clamp(0, 1)
    for stream, fraction in ((1, salt_pepper), (2, masking)):
        if fraction > 0:
            words = _words(key, stream, view.shape[1] * view.shape[2])
            u = torch.from_numpy((words >> np.uint64(8)).astype(np.float64) * 2.0**-24).view(view.shape[1:])
            fraction = float(np.float32(fraction))
            if stream == 1:
                view = torch.where(u < fraction, torch.where(u < fraction / 2, 0.0, 1.0), view)
            else:
                view = torch.where(u < fraction, 0.0, view)
    return view
