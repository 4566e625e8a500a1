"""rgb_to_lab and lab_to_rgb over all of RGB, against the formulas and scikit-image; layouts, threads, bad input."""

import pytest
import torch
from ops.samples_lab import images

from sslfast.ops import lab_to_rgb, rgb_to_lab
from sslfast.ops.reference import lab as reference


def reds():
    """All 2**24 colours, (1, 3, 256, 256) with one red at a time."""
    green, blue = torch.meshgrid(*[torch.arange(256, dtype=torch.uint8)] * 2, indexing="ij")
    for red in range(256):
        yield torch.stack([torch.full_like(green, red), green, blue])[None]


def test_every_colour():
    """Within 0.01 of the formula in float64, and back without loss."""
    for colours in reds():
        lab = rgb_to_lab(colours)
        assert (lab - reference.rgb_to_lab(colours)).abs().max() < 0.005
        assert torch.equal(lab_to_rgb(lab, torch.uint8), colours)


def test_floats_between_the_bytes():
    generator = torch.Generator().manual_seed(0)
    bright = torch.rand(1, 3, 300, 300, generator=generator)
    for colours in (bright, bright**4, 0.04 + 0.001 * bright, 0.2 * bright, torch.tensor(0.04045).expand(1, 3, 1, 1)):
        lab = rgb_to_lab(colours)
        assert (lab - reference.rgb_to_lab(colours)).abs().max() < 0.005
        assert (lab_to_rgb(lab) - reference.lab_to_rgb(lab)).abs().max() < 2e-5
        assert (lab_to_rgb(lab) - colours).abs().max() < 1e-3


def test_reference_equals_scikit_image():
    color = pytest.importorskip("skimage.color", reason="scikit-image comes with the extra 'compare'")
    colours = images((2, 40, 50)).double() / 255
    lab = color.rgb2lab(colours.numpy(), channel_axis=1)
    torch.testing.assert_close(reference.rgb_to_lab(colours), torch.from_numpy(lab), rtol=0, atol=1e-9)
    back = color.lab2rgb(0.9 * lab, channel_axis=1)
    torch.testing.assert_close(
        reference.lab_to_rgb(torch.from_numpy(0.9 * lab)), torch.from_numpy(back), rtol=0, atol=1e-9
    )


def test_bytes_equal_floats():
    colours = images((3, 20, 31))
    torch.testing.assert_close(rgb_to_lab(colours), rgb_to_lab(colours / 255), rtol=0, atol=5e-4)


def test_known_colours():
    """Black, white and the primaries; values of CIE Lab under D65 as tables print them."""
    colours = torch.tensor([[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]], dtype=torch.uint8)
    expected = [[0, 0, 0], [100, 0, 0], [53.24, 80.09, 67.20], [87.74, -86.18, 83.18], [32.30, 79.19, -107.86]]
    lab = rgb_to_lab(colours.T.reshape(1, 3, 5, 1))[0, :, :, 0].T
    torch.testing.assert_close(lab, torch.tensor(expected), rtol=0, atol=0.02)


@pytest.mark.parametrize("function", [rgb_to_lab, lab_to_rgb], ids=["rgb_to_lab", "lab_to_rgb"])
def test_layouts(function):
    dense = rgb_to_lab(images((2, 9, 12))) if function is lab_to_rgb else images((2, 9, 12)) / 255
    expected = function(dense)
    padded = torch.zeros(2, 4, 18, 13)
    padded[:, 1:, ::2, 1:] = dense
    views = (dense.to(memory_format=torch.channels_last), dense.mT.contiguous().mT, padded[:, 1:, ::2, 1:])
    for view in views:
        assert not view.is_contiguous()
        result = function(view)
        assert result.is_contiguous() and torch.equal(result, expected)


def test_thread_count_changes_nothing():
    colours = images((3, 150, 170))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = rgb_to_lab(colours)
        torch.set_num_threads(3)
        assert torch.equal(rgb_to_lab(colours), one)
        assert torch.equal(lab_to_rgb(one, torch.uint8), colours)
    finally:
        torch.set_num_threads(threads)


def test_images_carry_no_gradient():
    assert not rgb_to_lab(torch.rand(1, 3, 2, 2, requires_grad=True)).requires_grad
    assert not lab_to_rgb(torch.rand(1, 3, 2, 2, requires_grad=True)).requires_grad


def test_not_a_number():
    lab = torch.zeros(1, 3, 1, 2)
    lab[0, 1, 0, 0] = torch.nan
    assert torch.equal(lab_to_rgb(lab).isnan(), torch.tensor([[[[True, False]]]]).expand(1, 3, 1, 2))
    assert torch.equal(lab_to_rgb(lab, torch.uint8), torch.zeros(1, 3, 1, 2, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: rgb_to_lab(torch.zeros(1, 3, 2, 2, dtype=torch.float64)),
            r"got float64; convert them with \.float\(\)",
        ),
        (lambda: rgb_to_lab(torch.zeros(1, 4, 2, 2)), r"shape \(any, 3, any, any\), got \(1, 4, 2, 2\)"),
        (lambda: rgb_to_lab(torch.zeros(3, 2, 2)), r"must have shape"),
        (lambda: lab_to_rgb(torch.zeros(1, 3, 2, 2, dtype=torch.uint8)), "lab must be float32, got uint8"),
        (lambda: lab_to_rgb(torch.zeros(1, 1, 2, 2)), "must have shape"),
        (lambda: lab_to_rgb(torch.zeros(1, 3, 2, 2), torch.float16), "dtype must be torch.float32 or torch.uint8"),
        (lambda: torch.ops.sslfast.rgb_to_lab(torch.zeros(1, 3, 2, 3).mT), "must be contiguous"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(RuntimeError, match=message):
        call()
