"""MultiView: one call for the views of one size, with the bits of one call a view."""

import pytest
import torch

from sslfast import ops
from sslfast.augment import MultiView, ViewSpec, presets
from sslfast.data.batch import ImageBatch
from sslfast.errors import UserError

IMAGES = torch.randint(0, 256, (6, 20, 24, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
BATCH = ImageBatch.from_dense(IMAGES, index=torch.tensor([4, 7, 0, 12, 1, 9]))
SMALL, OTHER = ViewSpec(size=8, hflip=0.5, jitter=1.0, brightness=0.5), ViewSpec(size=(8, 12), vflip=0.5)
LISTS = {  # specs, calls that make views, calls that draw
    "one": ([SMALL], 1, 1),
    "two alike": (presets.simclr(16), 1, 1),
    "two different": (presets.byol(16), 1, 2),
    "swav": (presets.swav(32), 2, 2),
    "dino": (presets.dino(32), 2, 3),
    "rotations of one crop": (presets.rotation(16, 4), 1, 4),
    "sizes in turn": ([SMALL, OTHER, SMALL, OTHER.replace(size=(12, 8)), SMALL], 3, 5),
    "other normalisation": ([SMALL, SMALL.replace(mean=(0.5,), std=(0.5,))], 2, 2),
    "streams shared in part": ([SMALL, SMALL.replace(stream=7), SMALL.replace(stream=7), SMALL], 1, 4),
    "none": ([], 0, 0),
}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize(("dtype", "channels_last"), [(torch.float32, False), (torch.bfloat16, True)])
def test_views_and_parameters_are_those_made_one_by_one(name, dtype, channels_last):
    specs = LISTS[name][0]
    views = MultiView(specs, 5, dtype, channels_last)(BATCH, epoch=3)
    assert len(views.tensors) == len(views.params) == len(specs)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    for k, (spec, view, params) in enumerate(zip(specs, views.tensors, views.params, strict=True)):
        alone = spec if spec.stream is not None else spec.replace(stream=k)
        expected = MultiView([alone], 5, dtype, channels_last)(BATCH, epoch=3)
        assert torch.equal(view, expected.tensors[0]) and torch.equal(params, expected.params[0])
        assert view.shape == (6, 3, *spec.shape) and view.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("name", LISTS)
def test_one_call_a_size_and_a_draw_a_spec(name, monkeypatch):
    specs, made, drawn = LISTS[name]
    calls = []
    for op in ("augment", "augment_params"):
        original = getattr(ops, op)
        monkeypatch.setattr(ops, op, lambda *a, op=op, original=original, **k: calls.append(op) or original(*a, **k))
    MultiView(specs)(BATCH)
    assert (calls.count("augment"), calls.count("augment_params")) == (made, drawn)


def test_an_empty_batch_has_empty_views():
    views = MultiView(presets.swav(32))(BATCH.select(slice(0, 0)))
    assert [tuple(view.shape) for view in views.tensors] == [(0, 3, 32, 32)] * 2 + [(0, 3, 14, 14)] * 6
    assert all(params.shape == (0, len(ops.AUGMENT_COLUMNS)) for params in views.params)


@pytest.mark.parametrize("seed", [2**63, 2**64 - 1, -(2**63), 2**63 - 1])
def test_any_seed_of_64_bits_names_a_stream(seed):
    """The random streams depend on the seed's bits, however their highest one is read."""
    signed = seed - 2**64 if seed >= 2**63 else seed
    views = MultiView([SMALL], seed)(BATCH)
    params, _ = ops.augment_params(SMALL, BATCH.index, BATCH.sizes, signed)
    assert torch.equal(views.params[0], params)
    assert not torch.equal(MultiView([SMALL], seed ^ 1)(BATCH).params[0], params)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MultiView([SMALL], seed=2**64), "seed is 18446744073709551616; it must be a whole number from"),
        (lambda: MultiView([SMALL], seed=-(2**63) - 1), "seed is -9223372036854775809"),
        (lambda: MultiView([SMALL], seed=1.5), "seed is 1.5"),
        (lambda: MultiView([SMALL], dtype="float16"), "dtype is 'float16'; it must be one of torch.float32"),
        (lambda: MultiView([SMALL], dtype=torch.float64), "dtype is torch.float64"),
        (lambda: MultiView(SMALL), "it must be a list of one ViewSpec a view"),
        (lambda: MultiView(["simclr"]), r"specs is \['simclr'\]"),
        (lambda: MultiView([SMALL])(BATCH, 1.5), "epoch is 1.5"),
        (lambda: MultiView([SMALL])(BATCH, -1), "epoch is -1; it must be a whole number from 0 to 4294967295"),
        (lambda: MultiView([SMALL])(BATCH, 2**32), "epoch is 4294967296"),
    ],
)
def test_wrong_arguments_name_themselves_and_what_is_right(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_a_view_can_be_changed_in_place():
    """The views of a size share storage, but no pixel."""
    first, second = MultiView(presets.simclr(16))(BATCH).tensors
    before = second.clone()
    first.requires_grad_().mul(2.0).sum().backward()
    with torch.no_grad():
        first.zero_()
    assert torch.equal(second, before) and (first.grad == 2.0).all()
