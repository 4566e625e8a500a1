"""The random streams of the patches: what a row may depend on, and how it is distributed."""

import pytest
import torch
from scipy import stats

from sslfast import ops
from sslfast.augment import GridSpec, grids, presets
from sslfast.ops.reference import patch_grid_params as reference

SPEC = GridSpec((3, 3), 8, 10, 2, 0.5, (1, 2), 0.5, (2, 5), tuple((4, n) for n in range(9)))


def draw(index, seed=1, epoch=2, view=0, spec=SPEC, channels=3):
    return ops.patch_grid_params(spec, torch.as_tensor(index), seed, epoch, view, channels)


def test_rows_depend_on_nothing_but_their_name():
    """Any batch size, order and repetition: the rows of an image are the same bits."""
    index = torch.arange(500)
    whole = draw(index)
    order = torch.randperm(500, generator=torch.Generator().manual_seed(0))
    assert all(torch.equal(ours, table[order]) for ours, table in zip(draw(index[order]), whole, strict=True))
    for size in (1, 7, 64, 333):
        parts = [draw(part) for part in index.split(size)]
        for tables, table in zip(zip(*parts, strict=True), whole, strict=True):
            assert torch.equal(torch.cat(tables), table)


@pytest.mark.parametrize("change", [{"seed": 2}, {"epoch": 3}, {"view": 1}])
def test_every_part_of_the_name_matters(change):
    index = torch.arange(300)
    for ours, other in zip(draw(index), draw(index, **change), strict=True):
        assert not torch.equal(ours, other)


def test_options_do_not_move_other_draws():
    index = torch.arange(300)
    plain, dropping = draw(index, spec=SPEC.replace(channel_drop=0.0)), draw(index)
    assert torch.equal(plain.offsets, dropping.offsets) and torch.equal(plain.order, dropping.order)
    assert plain.dropped.eq(0).all()
    assert torch.equal(plain.reduced, dropping.reduced)
    sharp = draw(index, spec=SPEC.replace(reduce=0.0))
    assert sharp.reduced.eq(1).all() and torch.equal(sharp.dropped, dropping.dropped)


def test_streams_differ_from_the_views():
    """The first patch's place and the crop of the same image and view are drawn independently."""
    index = torch.arange(4000)
    sizes = torch.tensor([[300, 400]], dtype=torch.int32).repeat(4000, 1)
    crops, _ = ops.augment_params(presets.simclr(224)[0], index, sizes, 1, 2, 0)
    wide = draw(index, spec=SPEC.replace(jitter=1000)).offsets
    columns = torch.cat([crops[:, :4], wide.flatten(1).float()], 1).double().T
    correlation = torch.corrcoef(columns)
    assert correlation[:4, 4:].abs().max() < 0.1
    assert (correlation[4:, 4:] - torch.eye(4)).abs().max() < 0.1


def test_distributions():
    """Every choice is equally likely (chi-squared at 1e-4, 9,000 images)."""
    params = draw(torch.arange(9000))
    for column, choices in (
        (params.arrangement, 9),
        (params.offsets[:, 0, 0], 3),
        (params.offsets[:, 1, 1], 3),
        (params.dropped[:, 0][params.dropped[:, 0] > 0], 6),
        (params.reduced[:, 1][params.reduced[:, 1] > 1], 4),
    ):
        chosen, counts = column.unique(return_counts=True)
        assert len(chosen) == choices and stats.chisquare(counts).pvalue > 1e-4
    assert torch.equal(params.order, torch.stack([torch.full((9000,), 4), params.arrangement], 1))
    assert abs((params.dropped > 0).double().mean() - 0.5) < 0.02
    assert abs((params.reduced > 1).double().mean() - 0.5) < 0.02
    assert set(params.dropped.unique().tolist()) == {0, 1, 2, 3, 4, 5, 6}


def test_negative_numbers_name_streams_too():
    tables = draw([-1, 0, 1], spec=SPEC.replace(jitter=1000))
    assert torch.equal(
        tables.offsets, reference.patch_grid_params(SPEC.replace(jitter=1000), torch.tensor([-1, 0, 1]), 1, 2).offsets
    )
    assert len(tables.offsets.unique(dim=0)) == 3


def test_without_arrangements():
    params = draw([5, 6], spec=grids.cpc(32))
    assert torch.equal(params.order, torch.arange(49).repeat(2, 1))
    assert params.arrangement.eq(0).all() and params.offsets.eq(0).all() and params.dropped.eq(0).all()


def test_more_channels_are_dropped_than_there_are():
    params = draw(torch.arange(50), spec=SPEC.replace(channel_drop=1.0, channel_drop_count=(32, 32)), channels=32)
    assert params.dropped.eq(-1).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"index": torch.zeros(2, dtype=torch.int32)}, "index must be int64"),
        ({"epoch": -1}, "epoch must be in"),
        ({"view": 65536}, "view must be in"),
        ({"channels": 33}, "channels must be 1 to 32"),
        ({"spec": GridSpec((64, 64), 1, 1)}, "patches must be 1 to 4092"),
        ({"spec": SPEC.replace(jitter=2**31)}, "jitter must be in"),
        ({"spec": SPEC.replace(reduce_factor=(1, 2**31))}, "reduce_factor must be 1 <= least"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(RuntimeError, match=message):
        draw(**{"index": torch.zeros(2, dtype=torch.int64), **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arrangements": torch.zeros(3, 2)}, "arrangements must be int64"),
        ({"arrangements": torch.zeros(3, 3, dtype=torch.int64)}, "arrangements must have shape"),
        ({"arrangements": torch.zeros(0, 2, dtype=torch.int64)}, "arrangements are empty"),
        ({"channel_drop": 1.5}, "probability"),
        ({"drop_count": [2, 1]}, "least <= most"),
        ({"drop_count": [2]}, "2 numbers"),
        ({"reduce": -0.5}, "reduce must be a probability"),
        ({"reduce_factor": [0, 2]}, "1 <= least"),
        ({"reduce_factor": [2]}, "reduce_factor must have 2 numbers"),
    ],
)
def test_bad_input_to_the_kernel(change, message):
    arguments = {"index": torch.zeros(2, dtype=torch.int64), "arrangements": None, "patches": 2, "jitter": 0}
    arguments |= {"channel_drop": 0.0, "drop_count": [1, 1], "channels": 3, "reduce": 0.0, "reduce_factor": [2, 4]}
    arguments |= {"seed": 0, "epoch": 0, "view": 0} | change
    with pytest.raises(RuntimeError, match=message):
        torch.ops.sslfast.patch_grid_params(**arguments)
