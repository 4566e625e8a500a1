"""Samples of `lab_quantize` and `lab_soft_encode`: no cell lies so close to an edge that rounding chooses its bin."""

import torch
from contract import Contract, Sample

from sslfast.ops import ab_bins
from sslfast.ops.reference import lab as reference

MARGIN = {"lab": 0.005, "rgb": 1e-5}  # of the channels: more than the error of the conversion
KINDS = {
    "grid": ("grid", "lab"),
    "rescaled": ("rescaled", "lab"),
    "ab313": ("ab313", "lab"),
    "grid_rgb": ("grid", "rgb"),
    "rescaled_rgb": ("rescaled", "rgb"),
}
NUMBERS = {"grid": 0, "rescaled": 1, "ab313": 2}


def draw(height: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """(3, height, width) uint8: a random colour with noise around it."""
    color = torch.randint(0, 256, (3, 1, 1), generator=generator)
    return (color + torch.randint(-20, 21, (3, height, width), generator=generator)).clamp(0, 255).byte()


def close_to_edge(images: torch.Tensor, size: tuple[int, int], kind: str, space: str = "lab") -> torch.Tensor:
    """(B, h, w): cells with a channel within the margin of an edge between two bins."""
    position = reference.bin_positions(images, size, kind, space)
    low, high = reference.bin_ranges(reference.channel_means(images, size, space), kind, space)
    edge = position.round()
    between = (edge > 0) & (edge < reference.BINS)
    close = between & ((position - edge).abs() * (high - low) / reference.BINS < MARGIN[space])
    if kind == "ab313":
        return close[:, 0] | close_in_rank(images, size, 1)
    return close.any(1)


def close_in_rank(images: torch.Tensor, size: tuple[int, int], neighbours: int) -> torch.Tensor:
    """(B, h, w): cells whose nearest bins could be ordered otherwise by an error of the margin in a and b."""
    ab = reference.channel_means(images, size)[:, 1:].permute(0, 2, 3, 1)
    distances = torch.cdist(ab.reshape(-1, 2), ab_bins().double()).sort(-1).values[:, : neighbours + 1]
    return (distances.diff(dim=-1) < 4 * MARGIN["lab"]).any(-1).view(ab.shape[:3])


def images_for(shape: tuple[int, int, int], size: tuple[int, int], close, seed: int = 0) -> torch.Tensor:
    """(B, 3, H, W) uint8 with a colour a cell; cells that `close(images)` names are drawn again until none is."""
    generator = torch.Generator().manual_seed(seed)
    batch, height, width = shape
    images = torch.zeros(batch, 3, height, width, dtype=torch.uint8)
    again = torch.ones(batch, *size, dtype=torch.bool)
    for _ in range(200):
        for b, i, j in again.nonzero().tolist():
            rows = slice(i * height // size[0], -(-(i + 1) * height // size[0]))
            columns = slice(j * width // size[1], -(-(j + 1) * width // size[1]))
            images[b, :, rows, columns] = draw(rows.stop - rows.start, columns.stop - columns.start, generator)
        again = close(images)
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


def hard_samples() -> list[Sample]:
    out = []
    for label, (kind, space) in KINDS.items():
        last = (NUMBERS[kind], space == "rgb")
        for name, (shape, size, small) in SHAPES.items():
            images = images_for(shape, size, lambda x, s=size, k=kind, c=space: close_to_edge(x, s, k, c))
            out.append(Sample(f"{name}_{label}", (images, *size, *last), small))
            if name in ("not_dividing", "split_brain"):
                out.append(Sample(f"{name}_{label}_float", (images / 255, *size, *last), small))
        if label != "rescaled_rgb":  # the cell in the middle would lie on an edge
            gray = torch.arange(18, dtype=torch.uint8).mul(13).view(2, 1, 3, 3).expand(2, 3, 3, 3).contiguous()
            out.append(Sample(f"gray_{label}", (gray, 3, 1, *last)))
        out.append(Sample(f"no_images_{label}", (torch.empty(0, 3, 4, 4), 2, 2, *last)))
    constant = torch.full((2, 3, 5, 4), 200, dtype=torch.uint8)
    return [*out, Sample("constant", (constant, 2, 2, 1, False)), Sample("constant_rgb", (constant, 2, 2, 1, True))]


def soft_samples() -> list[Sample]:
    out = []
    for name, (shape, size, small) in SHAPES.items():
        neighbours = 5 if name in ("dividing", "many") else 10
        images = images_for(shape, size, lambda x, s=size, k=neighbours: close_in_rank(x, s, k))
        out.append(Sample(name, (images, *size, neighbours, 5.0), small))
    out.append(Sample("float", (images / 255, 12, 12, 10, 5.0), False))
    one = images_for((2, 4, 4), (2, 2), lambda x: close_in_rank(x, (2, 2), 10))
    # A narrow Gaussian, whose weights would be 0 / 0 without scale, and a wide one.
    out += [Sample(f"sigma_{sigma}", (one, 2, 2, 10, sigma)) for sigma in (0.05, 300.0)]
    out.append(Sample("nearest", (one, 2, 2, 1, 5.0)))
    return [*out, Sample("no_images", (torch.empty(0, 3, 4, 4), 2, 2, 10, 5.0))]


def hard_reference(images, height, width, kind, rgb):
    name = next(name for name, number in NUMBERS.items() if number == kind)
    return reference.lab_quantize(images, (height, width), name, "rgb" if rgb else "lab")


def soft_reference(images, height, width, neighbours, sigma):
    return reference.lab_soft_encode(images, (height, width), neighbours, sigma)


HARD = Contract("lab_quantize", hard_reference, hard_samples, atol=5e-3, device_atol=1e-3)
SOFT = Contract("lab_soft_encode", soft_reference, soft_samples, atol=1e-3, device_atol=1e-4)
