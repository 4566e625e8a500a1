"""lab_quantize and lab_soft_encode beyond their contracts: what the classes mean, layouts, threads, bad input."""

import pytest
import torch
from ops.samples_lab_quantize import KINDS, close_in_rank, close_to_edge, images_for

from sslfast.errors import UserError
from sslfast.ops import ab_bins, lab_quantize, lab_soft_encode
from sslfast.ops.reference import lab as reference


def photo(height=96, width=96, batch=3):
    """(B, 3, H, W) uint8: a smooth picture with noise."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(batch, 3, 5, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return (255 * smooth + 10 * torch.randn(smooth.shape, generator=generator)).clamp(0, 255).byte()


def solid(*color, size=4):
    """(1, 3, size, size) uint8 of one colour."""
    return torch.tensor(color, dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, size, size)


@pytest.mark.parametrize("label", KINDS)
@pytest.mark.parametrize("size", [(12, 12), (7, 25), (96, 96), (1, 1)])
def test_classes_of_a_picture(label, size):
    """Equal to the formulas wherever the mean colour does not lie on an edge."""
    images = photo()
    clear = ~close_to_edge(images, size, *KINDS[label])
    assert clear.double().mean() > 0.5
    *classes, ranges = lab_quantize(images, size, *KINDS[label], return_ranges=True)
    *expected, expected_ranges = reference.lab_quantize(images, size, *KINDS[label])
    for got, want in zip(classes, expected, strict=True):
        assert got.shape == (3, *size) and got.dtype == torch.int64
        assert torch.equal(got[clear], want[clear])
    torch.testing.assert_close(ranges.double(), expected_ranges, rtol=0, atol=0.005)


def test_grid_classes_by_hand():
    """White is in the last bin of L, black in the first; gray and both in bin 5 of a and b."""
    for level, lightness in ((0, 0), (119, 50), (255, 99)):
        got = lab_quantize(solid(level, level, level), (2, 2))
        assert (got[0] == lightness).all() and (got[1] == 55).all()
    lightness, color = lab_quantize(solid(255, 0, 0), (1, 1))  # L 53.2, a 80.1, b 67.2
    assert lightness.item() == 53 and color.item() == 10 * int((80.1 + 128) / 25.5) + int((67.2 + 128) / 25.5)


def test_rgb_classes_by_hand():
    """Bytes that lie on an edge are in the bin above it: 51 is a fifth of 255."""
    for level, first, rest in ((0, 0, 0), (50, 19, 1), (51, 20, 2), (102, 40, 4), (153, 60, 6), (204, 80, 8)):
        for size in ((1, 1), (3, 2)):
            got = lab_quantize(solid(level, level, level), size, "grid", "rgb")
            assert (got[0] == first).all() and (got[1] == 11 * rest).all()
    first, rest = lab_quantize(solid(255, 10, 128), (1, 1), "grid", "rgb")
    assert (first.item(), rest.item()) == (99, 5)


def test_rescaled_rgb_by_hand():
    """Two columns of pixels: the darker is in the first bin of each channel, the lighter in the last."""
    images = torch.cat([solid(10, 40, 7), solid(110, 40, 9)], dim=3)
    first, rest, ranges = lab_quantize(images, (1, 2), "rescaled", "rgb", return_ranges=True)
    assert first.flatten().tolist() == [0, 99] and rest.flatten().tolist() == [0, 9]
    torch.testing.assert_close(ranges[0] * 255, torch.tensor([[10.0, 110.0], [40.0, 40.0], [7.0, 9.0]]))


@pytest.mark.parametrize(("kind", "space"), [("rescaled", "lab"), ("rescaled", "rgb")])
def test_rescaled_spreads_over_all_bins(kind, space):
    images = photo()
    for image in range(len(images)):
        first, rest = lab_quantize(images[image : image + 1], (24, 24), kind, space)
        for bins, count in ((first, 100), (rest // 10, 10), (rest % 10, 10)):
            assert bins.min() == 0 and bins.max() == count - 1
    dull = (images.float() / 255 - 0.5) * 0.1 + 0.5
    assert len(lab_quantize(dull, (24, 24), kind, space)[0].unique()) > 80
    assert len(lab_quantize(dull, (24, 24), "grid", space)[0].unique()) < 20


@pytest.mark.parametrize("label", KINDS)
def test_images_are_independent(label):
    images = photo()
    whole = lab_quantize(images, (8, 8), *KINDS[label], return_ranges=True)
    for b in range(len(images)):
        one = lab_quantize(images[b : b + 1], (8, 8), *KINDS[label], return_ranges=True)
        for ours, all_ in zip(one, whole, strict=True):
            assert torch.equal(ours, all_[b : b + 1])


def test_gray_has_no_colour_of_its_own():
    """Rounding must not be spread over the bins of a and b."""
    gray = photo()[:, :1].expand(-1, 3, -1, -1)
    lightness, color = lab_quantize(gray, (12, 12), "rescaled")
    assert lightness.unique().numel() > 30 and (color == 0).all()
    neutral = ab_bins().eq(0).all(1).nonzero().item()
    assert (lab_quantize(gray, (12, 12), "ab313")[1] == neutral).all()


@pytest.mark.parametrize("neighbours", [1, 5, 10])
def test_soft_encoding_of_a_picture(neighbours):
    """Against the distances to all 313 bins."""
    images = photo()
    indices, weights = lab_soft_encode(images, (24, 24), neighbours)
    expected, expected_weights = reference.lab_soft_encode(images, (24, 24), neighbours)
    clear = ~close_in_rank(images, (24, 24), neighbours)[:, None].expand_as(indices)
    assert clear.double().mean() > 0.5
    assert torch.equal(indices[clear], expected[clear])
    torch.testing.assert_close(weights.double(), expected_weights, rtol=0, atol=2e-3)
    torch.testing.assert_close(weights.sum(1), torch.ones(3, 24, 24))
    assert torch.equal(indices[:, 0], lab_quantize(images, (24, 24), "ab313")[1])


def test_every_colour_finds_its_neighbours():
    """The surface of sRGB, where bins are missing on one side: the window of candidates is wide enough."""
    levels = torch.arange(0, 256, 5)
    faces = [torch.stack(torch.meshgrid(levels, levels, torch.tensor([end]), indexing="ij")) for end in (0, 255)]
    images = torch.stack([face.roll(turn, 0).flatten(2) for face in faces for turn in range(3)]).byte()
    size = tuple(images.shape[2:])
    indices, weights = lab_soft_encode(images, size)
    assert weights.isfinite().all()
    # Distances, which do not depend on the order of equal ones.
    ab = reference.channel_means(images, size)[:, 1:].permute(0, 2, 3, 1).reshape(-1, 2)
    best = torch.cdist(ab, ab_bins().double()).sort(1).values[:, :10]
    chosen = ab_bins().double()[indices.permute(0, 2, 3, 1).reshape(-1, 10)]
    ours = (ab[:, None] - chosen).norm(dim=-1)
    torch.testing.assert_close(ours, best, rtol=0, atol=0.02)


@pytest.mark.parametrize(
    "function", [lambda x: lab_quantize(x, (4, 5), "rescaled"), lambda x: lab_soft_encode(x, (4, 5))]
)
def test_layouts_and_threads(function):
    images = images_for((3, 20, 30), (4, 5), lambda x: close_to_edge(x, (4, 5), "rescaled"))
    expected = function(images)
    threads = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            got = function(images.to(memory_format=torch.channels_last))
            assert all(torch.equal(ours, theirs) for ours, theirs in zip(got, expected, strict=True))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("label", KINDS)
def test_not_a_number(label):
    images = photo(8, 8, 1).float() / 255
    spoiled = images.clone()
    spoiled[0, :, 0, 0] = torch.nan
    kind, space = KINDS[label]
    for got, want in zip(
        lab_quantize(spoiled, (4, 4), kind, space), lab_quantize(images, (4, 4), kind, space), strict=True
    ):
        assert got[0, 0, 0] == 0
        if kind != "rescaled":
            assert torch.equal(got.flatten()[1:], want.flatten()[1:])
    nothing = torch.full((1, 3, 4, 4), torch.nan)
    *classes, ranges = lab_quantize(nothing, (2, 2), kind, space, return_ranges=True)
    assert all(values.eq(0).all() for values in classes) and ranges.isfinite().all()


def test_soft_encoding_of_not_a_number():
    images = photo(8, 8, 1).float() / 255
    images[0, 2, 0, 0] = torch.nan
    indices, weights = lab_soft_encode(images, (4, 4))
    assert indices[0, :, 0, 0].eq(0).all() and weights[0, :, 0, 0].isnan().all()
    assert weights.flatten(2)[..., 1:].isfinite().all()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"kind": "rescale"}, UserError, "did you mean 'rescaled'"),
        ({"space": "rbg"}, UserError, "did you mean 'rgb'"),
        ({"space": "rgb", "kind": "ab313"}, UserError, "of Lab"),
        ({"size": 4.0}, UserError, r"lab_quantize: size is 4.0; give a whole number, or two"),
        ({"size": (4, 4, 4)}, UserError, "give a whole number, or two"),
        ({"size": (4, True)}, UserError, "give a whole number, or two"),
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"neighbours": 0}, "neighbours must be 1 to 10, got 0"),
        ({"neighbours": 11}, "1 to 10"),
        ({"sigma": 0.0}, "sigma must be in"),
        ({"sigma": float("nan")}, "sigma must be in"),
        ({"size": (9, 4)}, r"size \(9, 4\)"),
        ({"images": torch.zeros(1, 3, 8, 8).half()}, "lab_soft_encode: images must be uint8 or float32"),
    ],
)
def test_bad_input_to_the_soft_encoding(change, message):
    arguments = {"images": torch.zeros(1, 3, 8, 8), "size": (4, 4)} | change
    with pytest.raises(RuntimeError, match=message):
        lab_soft_encode(**arguments)


@pytest.mark.parametrize("op", [lab_quantize, lab_soft_encode])
def test_size_of_a_square(op):
    images = photo(16, 20, 1)
    for got, want in zip(op(images, 8), op(images, (8, 8)), strict=True):
        assert torch.equal(got, want)
    with pytest.raises(UserError, match="size is '8'; give a whole number, or two"):
        op(images, "8")


def test_bad_input_to_the_kernel():
    images = torch.zeros(1, 3, 8, 8)
    with pytest.raises(RuntimeError, match="kind must be 0, 1 or 2, got 3"):
        torch.ops.sslfast.lab_quantize(images, 4, 4, 3, False)
    with pytest.raises(RuntimeError, match="RGB has no ab313"):
        torch.ops.sslfast.lab_quantize(images, 4, 4, 2, True)
