"""reduce_resolution against torch's pooling; gradients, layouts, bad input."""

import pytest
import torch
from torch.nn import functional

from sslfast.ops import reduce_resolution


def images(*shape, dtype=torch.float32):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.parametrize("factor", [2, 3, 4, 12])
def test_equals_pooling_and_repetition(factor):
    x = images(3, 2, 12, 24)
    expected = functional.interpolate(functional.avg_pool2d(x, factor), scale_factor=factor, mode="nearest")
    torch.testing.assert_close(reduce_resolution(x, torch.full((3,), factor, dtype=torch.int32)), expected)


def test_incomplete_blocks_have_their_own_mean():
    x = images(1, 1, 5, 5)
    expected = functional.avg_pool2d(x, 3, ceil_mode=True, count_include_pad=False)
    expected = expected.repeat_interleave(3, 2).repeat_interleave(3, 3)[..., :5, :5]
    torch.testing.assert_close(reduce_resolution(x, torch.tensor([3], dtype=torch.int32)), expected)


def test_every_image_has_its_own_factor():
    x = images(4, 2, 9, 7)
    factors = torch.tensor([1, 2, 5, 0], dtype=torch.int32)
    whole = reduce_resolution(x, factors)
    assert torch.equal(whole[0], x[0]) and torch.equal(whole[3], x[3])
    for b in range(4):
        assert torch.equal(reduce_resolution(x[b : b + 1], factors[b : b + 1])[0], whole[b])


def test_bytes_are_rounded_to_the_nearest():
    x = torch.tensor([[0, 1, 0, 0], [1, 1, 0, 1], [254, 255, 3, 4], [255, 255, 4, 4]], dtype=torch.uint8)[None, None]
    got = reduce_resolution(x, torch.tensor([2], dtype=torch.int32))
    assert got[0, 0, ::2, ::2].tolist() == [[1, 0], [255, 4]]


def test_gradcheck():
    x = images(3, 2, 5, 4, dtype=torch.float64).requires_grad_()
    factors = torch.tensor([2, 1, 3], dtype=torch.int32)
    assert torch.autograd.gradcheck(lambda x: reduce_resolution(x, factors), x)
    assert torch.autograd.gradgradcheck(lambda x: reduce_resolution(x, factors), x)


def test_layouts_and_threads():
    x = images(40, 3, 20, 30)
    factors = torch.arange(80, dtype=torch.int32)[::2] % 7
    expected = reduce_resolution(x, factors.contiguous())
    threads = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            assert torch.equal(reduce_resolution(x.to(memory_format=torch.channels_last), factors), expected)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(2, 1, 4, 4, dtype=torch.int64)}, "got int64"),
        ({"images": torch.zeros(2, 4, 4)}, "must have shape"),
        ({"images": torch.zeros(2, 1, 2, 8193)}, "8192 pixels wide"),
        ({"factors": torch.ones(2)}, "factors must be int32"),
        ({"factors": torch.ones(3, dtype=torch.int32)}, r"factors must have shape \(2\)"),
    ],
)
def test_bad_input(change, message):
    arguments = {"images": torch.zeros(2, 1, 4, 4), "factors": torch.ones(2, dtype=torch.int32)} | change
    with pytest.raises(RuntimeError, match=message):
        reduce_resolution(**arguments)
