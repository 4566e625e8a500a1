"""Samples of `patch_grid` and `patch_grid_backward`."""

import torch
from contract import Contract, Sample

from sslfast.ops.reference import patch_grid as reference

EXTREME = torch.iinfo(torch.int32)


def values(shape, dtype, generator):
    if dtype == torch.uint8:
        return torch.randint(0, 256, shape, generator=generator, dtype=dtype)
    return torch.randn(shape, generator=generator).to(dtype)


# name, images' shape, dtype, grid, patch, stride, tables that are drawn (o: order, m: offsets, d: dropped), small
SHAPES = [
    ("everything", (3, 3, 30, 33), torch.float32, (3, 3), (8, 8), (10, 10), "omd", True),
    ("cpc", (2, 3, 32, 32), torch.float32, (7, 7), (8, 8), (4, 4), "", True),
    ("overlap_by_less_than_a_unit", (2, 2, 19, 22), torch.float32, (3, 4), (8, 8), (5, 3), "", True),
    ("gaps", (1, 1, 31, 17), torch.float32, (3, 2), (5, 4), (12, 9), "", True),
    ("odd_rows", (3, 3, 21, 23), torch.float32, (3, 3), (7, 5), (6, 8), "omd", True),
    ("uint8_units", (2, 3, 35, 37), torch.uint8, (2, 2), (16, 32), (17, 5), "om", True),
    ("uint8_last_bytes", (1, 1, 3, 23), torch.uint8, (1, 2), (3, 16), (3, 7), "", True),
    ("uint8_odd", (2, 3, 20, 21), torch.uint8, (3, 3), (5, 7), (6, 6), "md", True),
    ("float16", (2, 3, 20, 30), torch.float16, (3, 3), (8, 8), (6, 9), "md", True),
    ("bfloat16", (2, 2, 18, 24), torch.bfloat16, (3, 2), (9, 7), (4, 8), "om", True),
    ("float64", (2, 2, 18, 24), torch.float64, (3, 3), (8, 6), (4, 7), "omd", True),
    ("many_patches", (1, 1, 37, 36), torch.float32, (18, 17), (3, 4), (2, 2), "", True),
    ("one_pixel", (5, 1, 1, 1), torch.float32, (1, 1), (1, 1), (1, 1), "", True),
    ("whole_image", (2, 4, 12, 16), torch.float32, (1, 1), (12, 16), (7, 7), "", True),
    ("channels_beyond_32", (1, 40, 6, 8), torch.float32, (2, 2), (4, 4), (2, 4), "o", True),
    ("photo", (2, 3, 256, 256), torch.float32, (7, 7), (64, 64), (32, 32), "", False),
    ("jigsaw", (2, 3, 255, 255), torch.uint8, (3, 3), (64, 64), (85, 85), "om", False),
    ("wide_patch", (1, 2, 9, 2100), torch.float32, (2, 2), (4, 1040), (3, 900), "m", False),
    ("wide_odd_patch", (1, 2, 9, 700), torch.float32, (2, 2), (4, 301), (3, 99), "md", False),
    ("no_images", (0, 3, 12, 12), torch.float32, (2, 2), (4, 4), (4, 4), "", True),
]


def tables(shape, grid, letters, generator):
    """order, offsets and dropped; some entries lie outside of the grid or of the image."""
    patches, count = grid[0] * grid[1], grid[0] * grid[1] + (2 if "o" in letters else 0)
    order = torch.randint(-1, patches + 1, (shape[0], count), generator=generator)
    offsets = torch.randint(-6, 7, (shape[0], count, 2), generator=generator, dtype=torch.int32)
    offsets.view(-1, 2)[::5] = torch.tensor([EXTREME.max, EXTREME.min], dtype=torch.int32)
    dropped = torch.randint(0, 2 ** shape[1] if shape[1] < 32 else 1, (shape[0], count), generator=generator).int()
    return [
        table if letter in letters else None for letter, table in zip("omd", (order, offsets, dropped), strict=True)
    ]


def forward_samples():
    generator = torch.Generator().manual_seed(0)
    return [
        Sample(
            name,
            (
                values(shape, dtype, generator),
                *tables(shape, grid, letters, generator),
                *sizes(grid, patch, stride),
            ),
            small,
        )
        for name, shape, dtype, grid, patch, stride, letters, small in SHAPES
    ]


def sizes(*pairs):
    return tuple(list(pair) for pair in pairs)


def backward_samples():
    generator = torch.Generator().manual_seed(1)
    out = []
    for sample in forward_samples():
        images, *maps, grid, patch, stride = sample.args
        if images.dtype == torch.uint8:
            images = images.float()
        count = grid[0] * grid[1] if maps[0] is None else maps[0].shape[1]
        grad = values((len(images), count, images.shape[1], *patch), images.dtype, generator)
        out.append(Sample(sample.name, (grad, *maps, grid, stride, *images.shape[2:]), sample.small))
    return out


def forward_reference(images, order, offsets, dropped, grid, patch, stride):
    return reference.patch_grid(images, grid, patch, stride, order, offsets, dropped)


def backward_reference(grad, order, offsets, dropped, grid, stride, height, width):
    return reference.patch_grid_backward(grad.double(), grid, stride, (height, width), order, offsets, dropped)


FORWARD = Contract("patch_grid", forward_reference, forward_samples, atol=0.0, device_atol=0.0)
BACKWARD = Contract("patch_grid_backward", backward_reference, backward_samples, atol=1e-5, device_atol=0.0)
