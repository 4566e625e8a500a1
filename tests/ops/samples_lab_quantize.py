"""Samples of `lab_quantize`: no cell lies so close to an edge that rounding could choose its bin."""

import torch
from contract import Contract, Sample

from sslfast.ops.reference.lab import BINS, HIGH, LOW, bin_positions, lab_quantize, rgb_to_lab

MARGIN = 0.005  # of L, a and b: more than the error of the conversion
KINDS = ("grid", "rescaled")


def draw(height: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """(3, height, width) uint8: a random colour with noise around it."""
    color = torch.randint(0, 256, (3, 1, 1), generator=generator)
    return (color + torch.randint(-20, 21, (3, height, width), generator=generator)).clamp(0, 255).byte()


def close_to_edge(images: torch.Tensor, size: tuple[int, int], kind: str) -> torch.Tensor:
    """(B, h, w): cells with a channel within `MARGIN` of an edge between two bins."""
    position = bin_positions(images, size, kind)
    edge = position.round()
    between = (edge > 0) & (edge < BINS)
    lab = torch.nn.functional.adaptive_avg_pool2d(rgb_to_lab(images), size)
    span = HIGH - LOW if kind == "grid" else lab.amax((2, 3), True) - lab.amin((2, 3), True)
    return (between & ((position - edge).abs() * span / BINS < MARGIN)).any(1)


def images_for(shape: tuple[int, int, int], size: tuple[int, int], kind: str, seed: int = 0) -> torch.Tensor:
    """(B, 3, H, W) uint8 with a colour a cell; cells close to an edge are drawn again until none is."""
    generator = torch.Generator().manual_seed(seed)
    batch, height, width = shape
    images = torch.zeros(batch, 3, height, width, dtype=torch.uint8)
    again = torch.ones(batch, *size, dtype=torch.bool)
    for _ in range(200):
        for b, i, j in again.nonzero().tolist():
            rows = slice(i * height // size[0], -(-(i + 1) * height // size[0]))
            columns = slice(j * width // size[1], -(-(j + 1) * width // size[1]))
            images[b, :, rows, columns] = draw(rows.stop - rows.start, columns.stop - columns.start, generator)
        again = close_to_edge(images, size, kind)
        if not again.any():
            return images
    raise AssertionError("no images found; choose another seed")


# batch, height, width, rows and columns of cells, small
SHAPES = {
    "dividing": ((2, 6, 8), (3, 4), True),
    "not_dividing": ((3, 7, 5), (2, 3), True),
    "one_cell": ((1, 9, 9), (1, 1), True),
    "pixels": ((1, 17, 17), (17, 17), True),
    "many": ((40, 2, 2), (1, 2), True),
    "wide": ((2, 3, 600), (3, 2), False),
    "split_brain": ((4, 96, 96), (12, 12), False),
}


def samples() -> list[Sample]:
    out = []
    for kind in KINDS:
        for name, (shape, size, small) in SHAPES.items():
            images = images_for(shape, size, kind)
            out.append(Sample(f"{name}_{kind}", (images, *size, kind == "rescaled"), small))
            if name in ("not_dividing", "split_brain"):
                out.append(Sample(f"{name}_{kind}_float", (images / 255, *size, kind == "rescaled"), small))
        gray = torch.arange(18, dtype=torch.uint8).mul(13).view(2, 1, 3, 3).expand(2, 3, 3, 3).contiguous()
        out.append(Sample(f"gray_{kind}", (gray, 3, 1, kind == "rescaled")))
        out.append(Sample(f"no_images_{kind}", (torch.empty(0, 3, 4, 4), 2, 2, kind == "rescaled")))
    constant = torch.full((2, 3, 5, 4), 200, dtype=torch.uint8)
    return [*out, Sample("constant", (constant, 2, 2, True))]


def reference(images, height, width, rescaled):
    return lab_quantize(images, (height, width), KINDS[rescaled])


CONTRACT = Contract("lab_quantize", reference, samples)
