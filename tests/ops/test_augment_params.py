"""The random streams: the generator, and what a row may depend on."""

import hashlib

import pytest
import torch
from ops.samples_augment_params import SPECS
from scipy import stats
from torchvision.transforms import RandomResizedCrop, RandomRotation

from sslfast import _host, ops
from sslfast.augment import ViewSpec, presets

SPEC = presets.simclr(224)[0]
SIZES = torch.tensor([[300, 400]], dtype=torch.int32)

# SHA-256 of what 500 images draw from a spec, as it was first published.
STREAMS = {
    "simclr": "a71ea05c1733af78",
    "rotation": "008ba856af0400df",
    "noisy": "59f4223c4925d81e",
    "everything": "6f79b5086b07faae",
}


def draw(index, sizes=None, seed=1, epoch=2, view=0, spec=SPEC):
    index = torch.as_tensor(index)
    return ops.augment_params(spec, index, SIZES.repeat(len(index), 1) if sizes is None else sizes, seed, epoch, view)


def column(params, name):
    return params[:, ops.AUGMENT_COLUMNS.index(name)]


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [
        (0, [0, 0, 0, 0], [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        (2**64 - 1, [2**32 - 1] * 4, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            0x299F31D0A4093822,
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_known_answers(key, counter, expected):
    """The generator's published test vectors."""
    assert _host.philox(key, counter) == expected


def test_rows_depend_on_nothing_but_their_name():
    """Any batch size, order and repetition: the row of an image is the same bits."""
    index = torch.arange(1000)
    params, keys = draw(index)
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    shuffled, shuffled_keys = draw(index[order])
    assert torch.equal(shuffled, params[order]) and torch.equal(shuffled_keys, keys[order])
    for size in (1, 7, 64, 333):
        parts = [draw(part) for part in index.split(size)]
        assert torch.equal(torch.cat([p for p, _ in parts]), params)
        assert torch.equal(torch.cat([k for _, k in parts]), keys)


@pytest.mark.parametrize("change", [{"seed": 2}, {"epoch": 3}, {"view": 1}])
def test_every_part_of_the_name_matters(change):
    index = torch.arange(200)
    params, keys = draw(index)
    other, other_keys = draw(index, **change)
    assert not (keys == other_keys).any()
    assert (column(params, "brightness") == column(other, "brightness")).float().mean() < 0.2  # no jitter in 20 %


def test_several_views_at_once_are_those_drawn_one_by_one():
    index, sizes = torch.arange(30), SIZES.repeat(30, 1)
    params, keys = ops.augment_params(SPEC, index, sizes, seed=1, epoch=2, view=5, views=3)
    for v in range(3):
        one, one_keys = draw(index, view=5 + v)
        assert torch.equal(params[30 * v :][:30], one) and torch.equal(keys[30 * v :][:30], one_keys)


def test_options_do_not_move_other_draws():
    """Switching the blur on leaves every other column as it was."""
    index = torch.arange(300)
    with_blur, without = draw(index)[0], draw(index, spec=SPEC.replace(blur=0.0))[0]
    same = [k for k, name in enumerate(ops.AUGMENT_COLUMNS) if name != "blur_sigma"]
    assert torch.equal(with_blur[:, same], without[:, same])


def test_distributions():
    """Columns follow the laws the papers state (Kolmogorov-Smirnov at 1e-4, 20,000 images)."""
    params, _ = draw(torch.arange(20000), spec=SPEC.replace(rotation=(0.0, 90.0, 180.0, 270.0)))
    jittered = params[column(params, "hue") != 0]
    assert abs(len(jittered) / 20000 - 0.8) < 0.01
    for name, low, width in (
        ("brightness", 0.2, 1.6),
        ("contrast", 0.2, 1.6),
        ("saturation", 0.2, 1.6),
        ("hue", -0.2, 0.4),
    ):
        assert stats.kstest(column(jittered, name), "uniform", (low, width)).pvalue > 1e-4
    blurred = column(params, "blur_sigma")[column(params, "blur_sigma") > 0]
    assert abs(len(blurred) / 20000 - 0.5) < 0.015
    assert stats.kstest(blurred, "uniform", (0.1, 1.9)).pvalue > 1e-4
    for name, values in (("jitter_order", 24), ("rotation", 4), ("hflip", 2)):
        counts = column(params, name).unique(return_counts=True)[1]
        assert len(counts) == values and stats.chisquare(counts).pvalue > 1e-4
    assert abs(column(params, "grayscale").mean() - 0.2) < 0.01


def test_rotations_follow_the_rule():
    """Angles are distributed as torchvision's, as often as asked for, whatever the flips are."""
    spec = ViewSpec(hflip=0.5, vflip=0.5, rotation_range=(-20.0, 35.0), rotation_probability=0.3)
    params, _ = draw(torch.arange(20000), spec=spec)
    rotated, angles = column(params, "rotation") != 0, column(params, "rotation")
    assert abs(rotated.float().mean() - 0.3) < 0.012
    torch.manual_seed(0)
    theirs = torch.tensor([RandomRotation.get_params([-20.0, 35.0]) for _ in range(6000)])
    assert stats.ks_2samp(angles[rotated], theirs).pvalue > 1e-4
    for name in ("hflip", "vflip"):
        for flipped in (0, 1):
            among = column(params, name) == flipped
            assert abs(rotated[among].float().mean() - 0.3) < 0.017
            assert stats.kstest(angles[rotated & among], "uniform", (-20.0, 55.0)).pvalue > 1e-4


def test_the_probability_of_a_rotation_moves_no_angle():
    listed = ViewSpec(hflip=0.5, rotation=(90.0, 180.0, 270.0))
    always, sometimes = (draw(torch.arange(500), spec=s)[0] for s in (listed, listed.replace(rotation_probability=0.4)))
    rotated = column(sometimes, "rotation") != 0
    assert 0.3 < rotated.float().mean() < 0.5
    assert torch.equal(always[rotated], sometimes[rotated])
    for off in (listed.replace(rotation_probability=0.0), listed.replace(rotation=())):
        assert (column(draw(torch.arange(500), spec=off)[0], "rotation") == 0).all()


@pytest.mark.parametrize(("name", "digest"), STREAMS.items())
def test_streams_are_those_of_every_release(name, digest):
    """A seed names the same views for ever: what was drawn once is drawn again, to the bit."""
    index = 7919 * torch.arange(500)
    sizes = torch.stack([index % 700 + 1, index % 533 + 1], dim=1).int()
    params, keys = ops.augment_params(SPECS[name], index, sizes, seed=3, epoch=4, view=5)
    assert hashlib.sha256(params.numpy().tobytes() + keys.numpy().tobytes()).hexdigest()[:16] == digest


def test_crops_follow_the_rule():
    """Crops lie inside the image, and their areas and ratios are distributed as torchvision's."""
    spec = ViewSpec(crop_scale=(0.08, 1.0))
    params, _ = draw(torch.arange(20000), spec=spec)
    top, left, height, width = params[:, :4].T
    assert (top >= 0).all() and (left >= 0).all()
    assert (top + height <= 300).all() and (left + width <= 400).all()
    assert top.min() == 0 and left.min() == 0  # borders are reached
    torch.manual_seed(0)
    image = torch.empty(1, 300, 400)
    theirs = torch.tensor([RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)])
    for ours, peers in ((height * width, theirs[:, 2] * theirs[:, 3]), (width / height, theirs[:, 3] / theirs[:, 2])):
        assert stats.ks_2samp(ours, peers).pvalue > 1e-4


def test_narrow_image_falls_back_to_the_centre():
    params, _ = draw([0, 1], sizes=torch.tensor([[10, 4000], [4000, 10]], dtype=torch.int32))
    assert params[0, :4].tolist() == [0, round((4000 - 13) / 2), 10, 13]
    assert params[1, 2:4].tolist() == [13, 10]


BAD = {
    "index must be int64": {"index": torch.zeros(2, dtype=torch.int32)},
    "sizes must have shape": {"sizes": torch.ones(3, 2, dtype=torch.int32)},
    "epoch must be in": {"epoch": -1},
    "view must be in": {"view": 65536},
    "65535 and up to 65536": {"view": 65535, "views": 2},
    "views must be in": {"views": 0},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message):
    arguments = {
        "index": torch.zeros(2, dtype=torch.int64),
        "sizes": torch.ones(2, 2, dtype=torch.int32),
        **BAD[message],
    }
    with pytest.raises(RuntimeError, match=message):
        ops.augment_params(SPEC, **arguments)


def test_wrong_number_of_fields():
    with pytest.raises(RuntimeError, match="fields must have"):
        torch.ops.sslfast.augment_params(torch.zeros(1, dtype=torch.int64), SIZES, [1.0], 0, 0, 0)
