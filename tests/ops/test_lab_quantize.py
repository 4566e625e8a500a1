"""lab_quantize beyond its contract: what the classes mean, layouts, threads, bad input."""

import pytest
import torch
from ops.samples_lab_quantize import close_to_edge, images_for

from sslfast.errors import UserError
from sslfast.ops import lab_quantize
from sslfast.ops.reference import lab as reference


def photo(height=96, width=96, batch=3):
    """(B, 3, H, W) uint8: a smooth picture with noise."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(batch, 3, 5, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return (255 * smooth + 10 * torch.randn(smooth.shape, generator=generator)).clamp(0, 255).byte()


@pytest.mark.parametrize("kind", ["grid", "rescaled"])
@pytest.mark.parametrize("size", [(12, 12), (7, 25), (96, 96), (1, 1)])
def test_classes_of_a_picture(kind, size):
    """Equal to the formulas wherever the mean colour does not lie on an edge."""
    images = photo()
    clear = ~close_to_edge(images, size, kind)
    assert clear.double().mean() > 0.5
    for got, want in zip(lab_quantize(images, size, kind), reference.lab_quantize(images, size, kind), strict=True):
        assert got.shape == (3, *size) and got.dtype == torch.int64
        assert torch.equal(got[clear], want[clear])


def test_grid_classes_by_hand():
    """White is in the last bin of L, black in the first; gray and both in bin 5 of a and b."""
    for level, lightness in ((0, 0), (119, 50), (255, 99)):
        images = torch.full((1, 3, 4, 4), level, dtype=torch.uint8)
        got = lab_quantize(images, (2, 2))
        assert (got[0] == lightness).all() and (got[1] == 55).all()
    red = torch.tensor([255, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    lightness, color = lab_quantize(red, (1, 1))  # L 53.2, a 80.1, b 67.2
    assert lightness.item() == 53 and color.item() == 10 * int((80.1 + 128) / 25.5) + int((67.2 + 128) / 25.5)


def test_rescaled_spreads_over_all_bins():
    images = photo()
    for image in range(len(images)):
        lightness, color = lab_quantize(images[image : image + 1], (24, 24), "rescaled")
        for bins, count in ((lightness, 100), (color // 10, 10), (color % 10, 10)):
            assert bins.min() == 0 and bins.max() == count - 1
    dull = (images.float() / 255 - 0.5) * 0.1 + 0.5
    assert len(lab_quantize(dull, (24, 24), "rescaled")[0].unique()) > 80
    assert len(lab_quantize(dull, (24, 24), "grid")[0].unique()) < 20


def test_images_are_independent():
    images = photo()
    whole = lab_quantize(images, (8, 8), "rescaled")
    for b in range(len(images)):
        for one, all_ in zip(lab_quantize(images[b : b + 1], (8, 8), "rescaled"), whole, strict=True):
            assert torch.equal(one, all_[b : b + 1])


def test_gray_has_no_colour_of_its_own():
    """Rounding must not be spread over the bins of a and b."""
    gray = photo()[:, :1].expand(-1, 3, -1, -1)
    lightness, color = lab_quantize(gray, (12, 12), "rescaled")
    assert lightness.unique().numel() > 30 and (color == 0).all()


def test_layouts_and_threads():
    images = images_for((3, 20, 30), (4, 5), "rescaled")
    expected = lab_quantize(images, (4, 5), "rescaled")
    threads = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            got = lab_quantize(images.to(memory_format=torch.channels_last), (4, 5), "rescaled")
            assert all(torch.equal(ours, theirs) for ours, theirs in zip(got, expected, strict=True))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("kind", ["grid", "rescaled"])
def test_not_a_number(kind):
    images = photo(8, 8, 1).float() / 255
    spoiled = images.clone()
    spoiled[0, 1, 0, 0] = torch.nan
    for got, want in zip(lab_quantize(spoiled, (4, 4), kind), lab_quantize(images, (4, 4), kind), strict=True):
        assert got[0, 0, 0] == 0
        if kind == "grid":
            assert torch.equal(got.flatten()[1:], want.flatten()[1:])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"kind": "rescale"}, UserError, "did you mean 'rescaled'"),
        ({"size": (9, 4)}, RuntimeError, r"size \(9, 4\) must be at least \(1, 1\) and at most the images' \(8, 8\)"),
        ({"size": (0, 4)}, RuntimeError, "at least"),
        ({"images": torch.zeros(1, 1, 8, 8)}, RuntimeError, "must have shape"),
        ({"images": torch.zeros(1, 3, 8, 8).half()}, RuntimeError, "uint8 or float32, got float16"),
        ({"images": torch.zeros(1, 3, 0, 8)}, RuntimeError, "at most the images"),
    ],
)
def test_bad_input(change, error, message):
    arguments = {"images": torch.zeros(1, 3, 8, 8), "size": (4, 4), "kind": "grid"} | change
    with pytest.raises(error, match=message):
        lab_quantize(**arguments)
