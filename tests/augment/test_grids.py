"""The layouts of the papers, and what a GridSpec refuses."""

import pytest
import torch

from sslfast import ops
from sslfast.augment import GridSpec, grids
from sslfast.errors import UserError


def test_cpc_is_the_papers():
    spec = grids.cpc()
    assert (spec.grid, spec.patch, spec.stride, spec.jitter) == ((7, 7), 64, 32, 0)
    assert spec.image_size == (256, 256)
    small = grids.cpc(32)
    assert (small.patch, small.stride, small.image_size) == (8, 4, (32, 32))


def test_jigsaw_keeps_patches_in_their_cells():
    spec = grids.jigsaw(permutations=100)
    assert (spec.patch, spec.stride, spec.jitter, spec.image_size) == (64, 85, 21, (255, 255))
    assert len(set(spec.arrangements)) == 100
    small = grids.jigsaw(32, permutations=100)
    assert (small.patch, small.stride, small.jitter, small.image_size) == (8, 10, 2, (30, 30))
    for layout in (spec, small):
        assert layout.patch + layout.jitter == layout.stride


def test_relative_position_is_the_papers():
    spec = grids.relative_position()
    assert (spec.patch, spec.stride - spec.patch, spec.jitter) == (96, 48, 14)
    assert spec.image_size == (398, 398)
    assert spec.count == 2 and len(spec.arrangements) == 8
    assert all(centre == 4 for centre, _ in spec.arrangements)
    small = grids.relative_position(32)
    assert (small.patch, small.stride, small.jitter, small.image_size) == (8, 11, 2, (32, 32))


@pytest.mark.parametrize("size", range(20, 200, 7))
def test_relative_position_leaves_gaps_at_every_size(size):
    spec = grids.relative_position(size)
    assert spec.image_size == (size, size)
    assert spec.stride - spec.patch - spec.jitter >= 0


@pytest.mark.parametrize("size", range(6, 100, 5))
def test_jigsaw_fits_at_every_size(size):
    spec = grids.jigsaw(size, permutations=2)
    assert spec.image_size == (size // 3 * 3,) * 2 and spec.patch >= 1 and spec.jitter >= 0


@pytest.mark.parametrize("spec", [grids.cpc(64), grids.jigsaw(48, permutations=10), grids.relative_position(64, 0.0)])
def test_patches_of_a_layout_lie_inside_the_image(spec):
    """Every pixel of every patch is one of the image's (which has no zeros), in any draw."""
    images = (
        torch.arange(1.0, 1 + spec.image_size[0] * spec.image_size[1]).view(1, 1, *spec.image_size).repeat(64, 1, 1, 1)
    )
    params = ops.patch_grid_params(spec, torch.arange(64), channels=1)
    patches = ops.patch_grid(images, spec.grid, spec.patch, spec.stride, *params[:3])
    assert patches.shape == (64, spec.count, 1, spec.patch, spec.patch)
    assert (patches > 0).all()
    top, left = params.order // spec.grid[1] * spec.stride, params.order % spec.grid[1] * spec.stride
    corner = (top + params.offsets[..., 0]) * spec.image_size[1] + left + params.offsets[..., 1] + 1
    assert torch.equal(patches[:, :, 0, 0, 0], corner.float())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": (0, 3)}, "grid"),
        ({"grid": 3}, r"GridSpec.grid is 3; it must be two whole numbers such as \(3, 3\)"),
        ({"grid": (3, 2.5)}, "two whole numbers"),
        ({"channel_drop_count": 2}, "two whole numbers"),
        ({"reduce_factor": (1, 2, 3)}, "two whole numbers"),
        ({"patch": 0}, "patch"),
        ({"patch": 8.5}, "patch is 8.5; it must be a whole number"),
        ({"jitter": "1"}, "a whole number of 0 or more"),
        ({"stride": 0}, "stride"),
        ({"jitter": -1}, "jitter"),
        ({"channel_drop": 1.5}, "probability"),
        ({"channel_drop_count": (2, 1)}, "least <= most"),
        ({"reduce": -0.1}, "probability"),
        ({"reduce_factor": (0, 2)}, "1 <= least <= most"),
        ({"reduce_factor": (4, 2)}, "1 <= least <= most"),
        ({"arrangements": ((0, 1), (2,))}, "one length"),
        ({"arrangements": ((),)}, "one length"),
        ({"arrangements": ((0, 9),)}, "numbers of 9 patches"),
    ],
)
def test_bad_values(change, message):
    with pytest.raises(UserError, match=message):
        GridSpec(**{"grid": (3, 3), "patch": 8, "stride": 8, **change})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: grids.cpc(250), "multiple of 8"),
        (lambda: grids.cpc(0), "multiple of 8"),
        (lambda: grids.jigsaw(5), "6 px or more"),
        (lambda: grids.jigsaw(permutations=0), "362880"),
        (lambda: grids.jigsaw(permutations=400000), "362880"),
        (lambda: grids.relative_position(19), "20 px or more"),
    ],
)
def test_bad_layouts(make, message):
    with pytest.raises(UserError, match=message):
        make()
