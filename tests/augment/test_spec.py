"""ViewSpec, presets and MultiView."""

from math import inf, nan

import numpy as np
import pytest
import torch

from sslfast import ops
from sslfast.augment import MultiView, ViewSpec, presets
from sslfast.data.batch import ImageBatch
from sslfast.errors import UserError
from sslfast.registry import PRESETS, resolve

IMAGES = torch.randint(0, 256, (6, 20, 20, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", 0),
        ("crop_scale", (-0.1, 1.0)),
        ("crop_scale", (0.0, 0.0)),
        ("crop_scale", (0.5, 0.2)),
        ("crop_ratio", (0.0, 1.0)),
        ("center_fraction", 0.0),
        ("hflip", 1.5),
        ("jitter", -0.1),
        ("brightness", -1.0),
        ("hue", 0.6),
        ("rotation", tuple(float(k) for k in range(17))),
        ("rotation_zoom", 0.0),
        ("rotation_range", (1.0, -1.0)),
        ("rotation_range", 30.0),
        ("rotation_range", (0.0, inf)),
        ("rotation_probability", 1.5),
        ("rotation_probability", None),
        ("blur_sigma", (-0.1, 1.0)),
        ("blur_sigma", (1.0, 0.5)),
        ("interpolation", "nearest"),
        ("cutout_scale", (0.0, 1.0)),
        ("cutout_ratio", (2.0, 1.0)),
        ("channel_drop_count", (2, 1)),
        ("blur_kernel", 4),
        ("solarize_threshold", 2.0),
        ("noise_masking", 2.0),
        ("mean", (0.5, 0.5)),
        ("std", (1.0, 0.0, 1.0)),
        ("mean", ()),
        ("size", 100000),
        ("size", (16,)),
        ("size", (16, 16, 3)),
        ("size", 16.0),
        ("size", "16"),
        ("size", True),
        ("rotation", 90.0),
        ("rotation", (nan,)),
        ("rotation", "90"),
        ("mean", 0.5),
        ("mean", nan),
        ("mean", (nan, 0.5, 0.5)),
        ("std", (1.0, inf, 1.0)),
        ("crop_scale", 0.5),
        ("crop_scale", ("a", "b")),
        ("crop_ratio", None),
        ("crop_ratio", (1.0, inf)),
        ("hue", "a"),
        ("hue", (0.1, 0.2)),
        ("brightness", inf),
        ("noise_gaussian", inf),
        ("noise_gaussian", 10**400),
        ("channel_drop_count", (1, 2.5)),
        ("blur_kernel", 5.0),
        ("stream", -1),
        ("stream", 65536),
        ("stream", 1.5),
    ],
)
def test_values_outside_their_range(field, value):
    with pytest.raises(UserError, match=rf"ViewSpec\.{field} is .*; it must be "):
        ViewSpec(**{field: value})


def test_angles_are_listed_or_lie_in_a_range():
    with pytest.raises(UserError, match=r"rotation_range is \(0.0, 5.0\); it must be None beside the list rotation="):
        ViewSpec(rotation=(90.0,), rotation_range=(0.0, 5.0))


def test_sequences_of_any_kind_are_the_same_view():
    """What is read from YAML or computed by numpy draws what tuples of Python's numbers draw."""
    fields = {
        "size": (8, 12),
        "crop_scale": (0.5, 1.0),
        "crop_ratio": (1.0, 2.0),
        "rotation": (0.0, 90.0),
        "channel_drop_count": (1, 2),
        "mean": (0.5, 0.25, 0.125),
        "std": (0.5, 0.25, 0.125),
    }
    expected = ViewSpec(**fields)
    for kind in (list, np.array):
        spec = ViewSpec(**{name: kind(values) for name, values in fields.items()})
        assert spec == expected and hash(spec) == hash(expected)
        assert all(type(side) is int for side in spec.shape) and all(type(value) is float for value in spec.mean)
        views = (MultiView([one])(ImageBatch.from_dense(IMAGES)).tensors[0] for one in (spec, expected))
        assert torch.equal(*views)
    assert ViewSpec(size=np.int64(8)).shape == (8, 8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: presets.simclr(16.0), "size is 16.0; it must be a whole number of at least 1"),
        (lambda: presets.byol("16"), "size is '16'"),
        (lambda: presets.plain((16, 16)), r"size is \(16, 16\)"),
        (lambda: presets.rotation(0), "size is 0"),
        (lambda: presets.supervised(None), "size is None"),
        (lambda: presets.simclr(16, strength="strong"), "strength is 'strong'; it must be a finite number"),
        (lambda: presets.swav(32, local_views=-1), "local_views is -1"),
        (lambda: presets.dino(32, local_views=1.5), "local_views is 1.5"),
        (lambda: presets.swav(32, local_size="8"), "ViewSpec.size is '8'"),
        (lambda: presets.rotation(32, 4.0), "rotation by 4.0; give the number of angles"),
        (lambda: presets.rotation(32, ("a", "b")), "an angle of rotation is 'a'"),
        (lambda: presets.noisy(32, gaussian="much"), "ViewSpec.noise_gaussian is 'much'"),
    ],
)
def test_wrong_arguments_of_presets(make, message):
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("size", [32, 224])
def test_presets_run(name, size):
    specs = resolve("presets", name)(size)
    views = MultiView(specs, seed=3)(ImageBatch.from_dense(IMAGES), epoch=1)
    assert [tuple(view.shape) for view in views.tensors] == [(6, 3, *spec.shape) for spec in specs]
    assert all(view.isfinite().all() for view in views.tensors)


def test_simclr_numbers():
    """Chen et al. 2020, appendix A (ImageNet) and B.9 (CIFAR)."""
    large, small = presets.simclr(224)[0], presets.simclr(32)[0]
    assert (large.brightness, large.contrast, large.saturation, large.hue) == (0.8, 0.8, 0.8, 0.2)
    assert (small.brightness, small.contrast, small.saturation, small.hue) == (0.4, 0.4, 0.4, 0.1)
    assert (large.jitter, large.grayscale, large.hflip, large.blur, small.blur) == (0.8, 0.2, 0.5, 0.5, 0.0)
    assert large.crop_scale == (0.08, 1.0) and large.blur_sigma == (0.1, 2.0) and large.blur_kernel == 23


def test_noisy_views_show_the_same_pixels():
    batch = ImageBatch.from_dense(IMAGES)
    clean, noisy = MultiView(presets.noisy(20, gaussian=0.05))(batch).tensors
    torch.testing.assert_close(clean, IMAGES.permute(0, 3, 1, 2) / 255, rtol=0, atol=1e-6)
    assert 0.01 < (clean - noisy).abs().mean() < 0.06


def test_rotation_labels():
    batch = ImageBatch.from_dense(IMAGES)
    views = MultiView(presets.rotation(20, 4))(batch)
    for k, view in enumerate(views.tensors):
        assert (views.column(k, "rotation") == 90 * k).all()
        torch.testing.assert_close(view, torch.rot90(views.tensors[0], k, (2, 3)), rtol=0, atol=0)
    with pytest.raises(UserError, match="choose 2, 4 or 8"):
        presets.rotation(20, 3)


def test_eight_rotations_leave_no_empty_corner():
    """A white image stays white in all eight views, so that no corner gives the angle away."""
    views = MultiView(presets.rotation(21, 8))(
        ImageBatch.from_dense(torch.full((1, 21, 21, 3), 255, dtype=torch.uint8))
    )
    for view in views.tensors:
        torch.testing.assert_close(view, views.tensors[0], rtol=0, atol=1e-4)


def test_views_of_an_image_do_not_depend_on_the_batch():
    multi_view = MultiView(presets.simclr(16), seed=5)
    batch = ImageBatch.from_dense(IMAGES)
    first, second = multi_view(batch, epoch=4).tensors
    assert not torch.equal(first, second)
    for b in range(6):
        alone = multi_view(batch.select(torch.tensor([b])), epoch=4).tensors
        assert torch.equal(alone[0][0], first[b]) and torch.equal(alone[1][0], second[b])


def test_dtype_and_layout():
    view = MultiView(presets.plain(20), dtype=torch.bfloat16, channels_last=True)(
        ImageBatch.from_dense(IMAGES)
    ).tensors[0]
    assert view.dtype == torch.bfloat16 and view.is_contiguous(memory_format=torch.channels_last)


def test_columns_are_named():
    views = MultiView(presets.simclr(16))(ImageBatch.from_dense(IMAGES))
    assert views.column(0, "crop_height").shape == (6,)
    assert set(ops.AUGMENT_COLUMNS) >= {"crop_top", "hflip", "rotation", "hue", "blur_sigma"}
