"""patch_grid against torch's own unfold; layouts, gradients, corner cases, bad input."""

import pytest
import torch
from torch.nn import functional

from sslfast.augment import grids
from sslfast.errors import UserError
from sslfast.ops import patch_grid, patch_grid_params
from sslfast.ops.reference import patch_grid as reference
from sslfast.ops.reference.reduce_resolution import reduce_resolution


def photos(batch=2, channels=3, height=40, width=48, dtype=torch.float32):
    generator = torch.Generator().manual_seed(batch)
    return (torch.rand(batch, channels, height, width, generator=generator) * 255).to(dtype)


def unfolded(images, patch, stride):
    windows = images.unfold(2, patch, stride).unfold(3, patch, stride)  # (B, C, rows, columns, p, p)
    return windows.permute(0, 2, 3, 1, 4, 5).flatten(1, 2)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(("patch", "stride"), [(8, 4), (8, 8), (5, 7), (16, 3), (3, 1)])
def test_equals_unfold(patch, stride, dtype):
    images = photos(dtype=dtype)
    expected = unfolded(images, patch, stride)
    grid = tuple((side - patch) // stride + 1 for side in images.shape[2:])
    assert torch.equal(patch_grid(images, grid, patch, stride), expected)


def test_gradient_equals_fold():
    images = photos(dtype=torch.float64).requires_grad_()
    patches = patch_grid(images, (9, 11), 8, 4)
    weights = torch.randn(patches.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (grad,) = torch.autograd.grad(patches, images, weights)
    columns = weights.flatten(2).transpose(1, 2)
    torch.testing.assert_close(grad, functional.fold(columns, images.shape[2:], 8, stride=4))


def test_order_selects_and_repeats():
    images = photos(3)
    everything = patch_grid(images, 3, 8, 9)
    order = torch.tensor([[4, 0], [4, 8], [2, 2]])
    chosen = patch_grid(images, 3, 8, 9, order)
    for b in range(3):
        assert torch.equal(chosen[b], everything[b, order[b]])


def test_outside_is_zero():
    images = photos(1) + 1
    offsets = torch.tensor([[[-3, 0], [0, 45], [-8, 0], [39, 47]]], dtype=torch.int32)
    patches = patch_grid(images, (1, 1), 8, 8, torch.zeros(1, 4, dtype=torch.int64), offsets)[0]
    assert patches[0, :, :3].eq(0).all() and torch.equal(patches[0, :, 3:], images[0, :, :5, :8])
    assert patches[1, :, :, 3:].eq(0).all() and torch.equal(patches[1, :, :, :3], images[0, :, :8, 45:])
    assert patches[2].eq(0).all()
    assert patches[3, :, 0, 0].equal(images[0, :, 39, 47]) and patches[3].count_nonzero() == 3


def test_dropped_channels_have_no_gradient():
    images = photos(1).requires_grad_()
    dropped = torch.tensor([[0b010, 0b101]], dtype=torch.int32)
    patches = patch_grid(images, (1, 2), 8, 8, dropped=dropped)
    assert patches[0, 0, 1].eq(0).all() and patches[0, 1, (0, 2)].eq(0).all()
    (grad,) = torch.autograd.grad(patches.sum(), images)
    shown = torch.zeros(1, 3, 40, 48)
    shown[:, (0, 2), :8, :8] = 1
    shown[:, 1, :8, 8:16] = 1
    assert torch.equal(grad, shown)


def test_reduced_resolution():
    """Patches are cut, then lose resolution one by one; the gradient comes back through both."""
    images = photos(2).requires_grad_()
    order = torch.tensor([[0, 3, 1], [2, 2, 0]])
    reduced = torch.tensor([[1, 2, 8], [3, 1, 5]], dtype=torch.int32)
    sharp = patch_grid(images, 2, 8, 9, order)
    expected = reduce_resolution(sharp.flatten(0, 1).double(), reduced.flatten()).view(sharp.shape).float()
    got = patch_grid(images, 2, 8, 9, order, reduced=reduced)
    torch.testing.assert_close(got, expected)
    assert torch.equal(got[0, 0], sharp[0, 0]) and not torch.equal(got[0, 1], sharp[0, 1])
    weights = torch.rand(got.shape, generator=torch.Generator().manual_seed(0))
    pair = [torch.autograd.grad(patches, images, weights, retain_graph=True)[0] for patches in (got, expected)]
    torch.testing.assert_close(*pair)
    with pytest.raises(UserError, match=r"reduced must have shape \(2, 3\)"):
        patch_grid(images, 2, 8, 9, order, reduced=reduced[:1])


@pytest.mark.parametrize("layout", ["transposed", "channels_last", "cropped", "table"])
def test_layouts(layout):
    images = photos()
    order = torch.tensor([[0, 3, 1], [2, 2, 0]])
    expected = patch_grid(images, 2, 16, 17, order)
    if layout == "transposed":
        images = images.transpose(2, 3).contiguous().transpose(2, 3)
    elif layout == "channels_last":
        images = images.to(memory_format=torch.channels_last)
    elif layout == "cropped":
        images = functional.pad(images, (3, 2, 1, 5))[:, :, 1:41, 3:51]
    else:
        order = order.T.contiguous().T
    assert torch.equal(patch_grid(images, 2, 16, 17, order), expected)


def test_storage_that_begins_anywhere():
    """Images that do not begin at a multiple of 16 bytes."""
    storage = photos(1, 1, 1, 5 * 3 * 33 * 35 + 16, torch.uint8).flatten()
    for begin in range(16):
        images = storage[begin : begin + 5 * 3 * 33 * 35].view(5, 3, 33, 35)
        assert torch.equal(patch_grid(images, (2, 2), 16, 17), unfolded(images, 16, 17))


def test_gradcheck():
    images = photos(2, 2, 9, 8, torch.float64).requires_grad_()
    order = torch.tensor([[0, 3, 3, 1], [-1, 2, 0, 4]])
    offsets = torch.tensor([[[0, 1], [-2, 0], [3, 3], [9, 9]], [[0, 0], [1, 1], [-1, -1], [0, 0]]], dtype=torch.int32)
    dropped = torch.tensor([[0, 1, 2, 0], [0, 0, 3, 0]], dtype=torch.int32)
    for tables in ((), (order, offsets, dropped)):
        assert torch.autograd.gradcheck(lambda x, t=tables: patch_grid(x, 2, 4, 3, *t), images)
        assert torch.autograd.gradgradcheck(lambda x, t=tables: patch_grid(x, 2, 4, 3, *t), images)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_gradient_is_rounded_once(dtype):
    """49 patches show the middle pixel: a sum in the low precision would drift."""
    images = photos(1, 1, 13, 13, dtype).requires_grad_()
    patches = patch_grid(images, 7, 7, 1)
    weights = torch.rand(patches.shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    (grad,) = torch.autograd.grad(patches, images, weights)
    exact = reference.patch_grid_backward(weights.double(), (7, 7), (1, 1), (13, 13))
    assert torch.equal(grad, exact.float().to(dtype))


def test_same_bits_with_any_number_of_threads():
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            images = photos(5).requires_grad_()
            patches = patch_grid(images, 7, 8, 4)
            results.append((patches, *torch.autograd.grad(patches.square().sum(), images)))
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(torch.equal(ours, first) for ours, first in zip(result, results[0], strict=True))


def test_compiles_without_graph_break():
    torch.compiler.reset()
    params = patch_grid_params(grids.jigsaw(36, permutations=10), torch.arange(2))

    def step(images):
        return patch_grid(images, 3, 9, 12, *params[:3]).square().sum()

    images = photos().requires_grad_()
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    for got, want in zip(
        (compiled(images), *torch.autograd.grad(compiled(images), images)),
        (step(images), *torch.autograd.grad(step(images), images)),
        strict=True,
    ):
        assert torch.equal(got, want)


def test_no_images_and_no_patches():
    assert patch_grid(torch.empty(0, 3, 12, 12), 2, 4, 4).shape == (0, 4, 3, 4, 4)
    images = photos(1).requires_grad_()
    patches = patch_grid(images, 2, 4, 4, torch.empty(1, 0, dtype=torch.int64))
    assert patches.shape == (1, 0, 3, 4, 4)
    assert torch.autograd.grad(patches.sum(), images)[0].eq(0).all()


GOOD = {"images": photos(), "grid": 2, "patch": 8, "stride": 8}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": photos().long()}, "float32"),
        ({"images": photos()[0]}, "shape"),
        ({"images": torch.empty(2, 0, 40, 48)}, "channel"),
        ({"grid": 6}, r"needs images of 48 x 48 pixels, got 40 x 48"),
        ({"grid": (1, 7)}, "smaller grid"),
        ({"grid": 0}, "grid must be 1 or more"),
        ({"grid": 2**40, "stride": 2**40}, "below"),
        ({"patch": 0}, "patch must be 1 or more"),
        ({"stride": (8, 0)}, "stride must be 1 or more"),
        ({"order": torch.zeros(2, 4, dtype=torch.int32)}, "order must be int64"),
        ({"order": torch.zeros(3, 4, dtype=torch.int64)}, "order must have shape"),
        ({"order": torch.zeros(2, dtype=torch.int64)}, "order must have shape"),
        ({"offsets": torch.zeros(2, 4, 2)}, "offsets must be int32"),
        ({"offsets": torch.zeros(2, 3, 2, dtype=torch.int32)}, "offsets must have shape"),
        ({"dropped": torch.zeros(2, 4, 1, dtype=torch.int32)}, "dropped must have shape"),
        ({"images": photos(2, 33), "dropped": torch.zeros(2, 4, dtype=torch.int32)}, "32 channels"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(RuntimeError, match=message):
        patch_grid(**{**GOOD, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": (1, 2, 3)}, r"grid is \(1, 2, 3\); give a whole number, or two"),
        ({"patch": 8.5}, "patch is 8.5"),
        ({"stride": (8, "8")}, "stride is"),
        ({"order": [[0, 1]]}, "order must be a tensor, got a list; torch.as_tensor"),
        ({"reduced": [[1]]}, "reduced must be a tensor"),
    ],
)
def test_input_of_another_type(change, message):
    with pytest.raises(UserError, match=message):
        patch_grid(**{**GOOD, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grad": torch.zeros(2, 4, 3, 8, 8, dtype=torch.uint8)}, "float32"),
        ({"grad": torch.zeros(2, 5, 3, 8, 8)}, "4 patches an image, got 5"),
        ({"grad": torch.zeros(2, 4, 3, 8)}, "shape"),
        ({"grad": torch.zeros(2, 4, 3, 8, 16)[..., ::2]}, "contiguous"),
        ({"height": 15}, "needs images"),
        ({"grid": [2, 2, 2]}, "grid must have 2 numbers"),
    ],
)
def test_bad_input_to_the_backward_kernel(change, message):
    arguments = {"grad": torch.zeros(2, 4, 3, 8, 8), "order": None, "offsets": None, "dropped": None}
    arguments |= {"grid": [2, 2], "stride": [8, 8], "height": 16, "width": 16} | change
    with pytest.raises(RuntimeError, match=message):
        torch.ops.sslfast.patch_grid_backward(**arguments)
