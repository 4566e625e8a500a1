"""Samples of `rgb_to_lab` and `lab_to_rgb`."""

import torch
from contract import Contract, Sample

from sslfast.ops.reference.lab import lab_to_rgb, rgb_to_lab

# batch, height, width: one pixel, a plane that is no multiple of four, one that is, more images than blocks.
SHAPES = {"pixel": (1, 1, 1), "odd": (2, 5, 7), "even": (3, 8, 6), "many": (37, 3, 1), "large": (2, 301, 203)}


def images(shape: tuple[int, int, int], seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    batch, height, width = shape
    return torch.randint(0, 256, (batch, 3, height, width), generator=generator, dtype=torch.uint8)


def corners() -> torch.Tensor:
    """(1, 3, 27, 4): every mixture of none, some and all of the primaries, four times."""
    levels = torch.tensor([0, 11, 255], dtype=torch.uint8)
    return torch.cartesian_prod(levels, levels, levels).T.reshape(1, 3, 27, 1).repeat(1, 1, 1, 4)


def to_lab_samples() -> list[Sample]:
    out = [Sample(name, (images(shape),), name != "large") for name, shape in SHAPES.items()]
    out += [Sample(f"{name}_float", (images(shape) / 255,), name != "large") for name, shape in SHAPES.items()]
    beyond = torch.linspace(-0.5, 1.5, 108).view(1, 3, 4, 9)
    beyond[0, 1, 2, 3] = torch.nan
    return [
        *out,
        Sample("corners", (corners(),)),
        Sample("beyond", (beyond,)),
        Sample("infinite", (torch.tensor([torch.inf, -torch.inf, 0.5]).view(1, 3, 1, 1),)),
        Sample("no_images", (torch.empty(0, 3, 4, 4),)),
        Sample("no_pixels", (torch.empty(2, 3, 0, 4, dtype=torch.uint8),)),
    ]


def to_rgb_samples() -> list[Sample]:
    out = []
    for name, shape in SHAPES.items():
        lab = rgb_to_lab(images(shape)).float()
        out.append(Sample(f"{name}_float", (lab, torch.float32), name != "large"))
        out.append(Sample(f"{name}_bytes", (lab, torch.uint8), name != "large"))
    generator = torch.Generator().manual_seed(1)
    box = torch.rand(2, 3, 6, 6, generator=generator) * torch.tensor([100.0, 255.0, 255.0]).view(3, 1, 1)
    box -= torch.tensor([0.0, 128.0, 128.0]).view(3, 1, 1)
    spoiled = box.clone()
    spoiled[0, 2, 1, 1] = torch.nan
    return [
        *out,
        Sample("corners", (rgb_to_lab(corners()).float(), torch.uint8)),
        Sample("outside_of_srgb", (box, torch.float32)),
        Sample("nan", (spoiled, torch.float32)),
        Sample("no_images", (torch.empty(0, 3, 4, 4), torch.uint8)),
    ]


TO_LAB = Contract("rgb_to_lab", rgb_to_lab, to_lab_samples, atol=5e-3, device_atol=1e-3)
TO_RGB = Contract("lab_to_rgb", lab_to_rgb, to_rgb_samples, atol=1e-4, device_atol=1e-5)
