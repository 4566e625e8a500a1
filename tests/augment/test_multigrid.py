"""The patches of a batch against slices of its views."""

import itertools

import pytest
import torch

from sslfast.augment import MultiGrid, MultiView, grids, mosaic, presets
from sslfast.data.batch import ImageBatch
from sslfast.errors import UserError


def photographs(count=6):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 40, 50, 3), dtype=torch.uint8, generator=generator)
    return ImageBatch.from_dense(images)


VIEW = presets.plain(48)[0]
GRIDS = {
    "cpc": grids.cpc(48).replace(channel_drop=0.5, channel_drop_count=(1, 2)),
    "jigsaw": grids.jigsaw(48, permutations=10),
    "relative_position": grids.relative_position(48),
}


def places(views, grid):
    """(image, patch, upper left corner) of every patch, from what was drawn."""
    for b, k in itertools.product(*map(range, views.drawn.order.shape)):
        cell, offset = int(views.drawn.order[b, k]), views.drawn.offsets[b, k].tolist()
        yield b, k, cell // grid.grid[1] * grid.stride + offset[0], cell % grid.grid[1] * grid.stride + offset[1]


@pytest.mark.parametrize("name", GRIDS)
def test_multi_grid_cuts_the_view(name):
    grid = GRIDS[name]
    views = MultiGrid(VIEW, grid, seed=3)(photographs(), epoch=2)
    assert torch.equal(views.tensors[0], MultiView([VIEW], seed=3)(photographs(), epoch=2).tensors[0])
    for b, k, top, left in places(views, grid):
        expected = views.tensors[0][b, :, top : top + grid.patch, left : left + grid.patch].clone()
        expected[[c for c in range(3) if int(views.drawn.dropped[b, k]) >> c & 1]] = 0
        assert torch.equal(views.patches[b, k], expected)


@pytest.mark.parametrize("channel_jitter", [0, 2])
def test_some_patches_lose_resolution(channel_jitter):
    """Those whose factor is above 1 become the means of their blocks, the others stay."""
    grid = GRIDS["jigsaw"].replace(reduce=0.5, reduce_factor=(2, 4))
    full = MultiGrid(VIEW, GRIDS["jigsaw"], 3, channel_jitter)(photographs())
    views = MultiGrid(VIEW, grid, 3, channel_jitter)(photographs())
    factors = views.drawn.reduced
    assert 0 < (factors > 1).sum() < factors.numel()
    for patch, before, factor in zip(
        views.patches.flatten(0, 1), full.patches.flatten(0, 1), factors.flatten().tolist(), strict=True
    ):
        if factor > 1:
            block = before[:, :factor, :factor].mean(dim=(1, 2))
            torch.testing.assert_close(patch[:, :factor, :factor], block[:, None, None].expand(-1, factor, factor))
        else:
            assert torch.equal(patch, before)


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("channel_jitter", [0, 2])
def test_patches_do_not_depend_on_the_batch(name, channel_jitter):
    batch, multi_grid = photographs(), MultiGrid(VIEW, GRIDS[name], 3, channel_jitter)
    together = multi_grid(batch, epoch=1)
    for b in (5, 0, 2):
        alone = multi_grid(batch.select(torch.tensor([b])), epoch=1)
        assert torch.equal(alone.patches[0], together.patches[b])
        assert int(alone.drawn.arrangement) == int(together.drawn.arrangement[b])
    assert not torch.equal(multi_grid(batch, epoch=2).patches, together.patches)


@pytest.mark.parametrize("reach", [1, 2, 9])
def test_channel_jitter_moves_the_channels_of_a_patch_apart(reach):
    """Each channel is the slice at the patch's own place plus at most `reach` px, and never leaves the jitter."""
    grid = GRIDS["jigsaw"].replace(channel_drop=0.5)
    views = MultiGrid(VIEW, grid, 3, channel_jitter=reach)(photographs())
    assert torch.equal(views.drawn.order, MultiGrid(VIEW, grid, 3)(photographs()).drawn.order)
    moves = []
    for b, k, top, left in places(views, grid):
        own = views.drawn.offsets[b, k].tolist()
        for c in range(3):
            patch = views.patches[b, k, c]
            if int(views.drawn.dropped[b, k]) >> c & 1:
                assert not patch.any()
                continue
            found = [
                (y - own[0], x - own[1])
                for y, x in itertools.product(range(grid.jitter + 1), repeat=2)
                if torch.equal(
                    patch,
                    views.tensors[0][b, c, top - own[0] + y :, left - own[1] + x :][: grid.patch, : grid.patch],
                )
            ]
            assert len(found) == 1
            moves += found
    assert max(abs(step) for move in moves for step in move) == min(reach, grid.jitter)
    assert len(set(moves)) > 5


def test_channels_of_gray_views_stay_together():
    gray = VIEW.replace(grayscale=1.0)
    views = MultiGrid(gray, GRIDS["jigsaw"], channel_jitter=2)(photographs())
    assert torch.equal(views.patches, MultiGrid(gray, GRIDS["jigsaw"])(photographs()).patches)


def test_mosaic():
    patches = torch.rand(2, 6, 3, 4, 5)
    picture = mosaic(patches, (2, 3))
    assert picture.shape == (2, 3, 10, 18)
    for k in range(6):
        top, left = k // 3 * 5, k % 3 * 6
        assert torch.equal(picture[:, :, top : top + 4, left : left + 5], patches[:, k])
    assert (picture[:, :, 4::5] == 1).all() and (picture[..., 5::6] == 1).all()


def test_bad_multi_grids():
    with pytest.raises(UserError, match=r"grid of \(48, 48\) px cannot be cut out of views of \(47, 47\)"):
        MultiGrid(presets.plain(47)[0], GRIDS["cpc"])
    with pytest.raises(UserError, match="channel_jitter is -1"):
        MultiGrid(VIEW, GRIDS["cpc"], channel_jitter=-1)
