"""Transforms with lightly's names: same arguments, same meaning, values of MultiView."""

import copy
import inspect

import numpy
import pytest
import torch
from augment.lightly_fields import differences, lightly_view
from PIL import Image

from sslfast import augment
from sslfast.augment import MultiView, SimCLRTransform, Transform, ViewSpec, presets
from sslfast.data import ImageBatch
from sslfast.errors import UserError

IMAGES = torch.randint(0, 256, (5, 24, 20, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
SAME_NAME = (
    *("SimCLRTransform", "MoCoV2Transform", "SimSiamTransform", "VICRegTransform", "SwaVTransform"),
    *("DINOTransform", "BYOLView1Transform", "BYOLView2Transform", "MoCoV1Transform"),
)
# The default that differs because the paper or its authors' code does: see test_presets.py.
OTHER_DEFAULT = {"MoCoV1Transform": "cj_prob", "DINOTransform": "n_local_views"}
# One value of every argument that is neither a default of lightly's nor of ours.
VALUES = {
    "input_size": 40,
    "cj_prob": 0.7,
    "cj_strength": 0.6,
    "cj_bright": 0.7,
    "cj_contrast": 0.3,
    "cj_sat": 0.9,
    "cj_hue": 0.3,
    "min_scale": 0.3,
    "random_gray_scale": 0.3,
    "gaussian_blur": 0.4,
    "solarize_prob": 0.3,
    "solarization_prob": 0.3,
    "sigmas": (0.3, 1.5),
    "vf_prob": 0.25,
    "hf_prob": 0.75,
    "rr_prob": 0.31,
    "rr_degrees": (-20.0, 35.0),
    "normalize": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]},
    "crop_sizes": (48, 20),
    "crop_counts": (1, 3),
    "crop_min_scales": (0.3, 0.1),
    "crop_max_scales": (0.9, 0.2),
    "global_crop_size": 48,
    "global_crop_scale": (0.5, 0.9),
    "local_crop_size": 20,
    "local_crop_scale": (0.1, 0.3),
    "n_local_views": 3,
}


def peer(name):
    """lightly's class of this name."""
    transforms = pytest.importorskip("lightly.transforms")
    from lightly.transforms import byol_transform, moco_transform

    for module in (transforms, byol_transform, moco_transform):
        if hasattr(module, name):
            return getattr(module, name)
    raise AssertionError(f"lightly has no {name}")


def assert_same_views(name, arguments):
    theirs = peer(name)(**arguments)
    fields = [lightly_view(view) for view in getattr(theirs, "transforms", [theirs])]
    if name == "DINOTransform":  # lightly's second global view does not get cj_strength
        for part in ("brightness", "contrast", "saturation", "hue"):
            fields[1][part] = fields[0][part]
    specs = getattr(augment, name)(**arguments).specs
    assert len(specs) == len(fields)
    bicubic = {"interpolation": "bilinear"} if name.startswith("BYOL") else {}  # as the paper: see test_presets.py
    for spec, view in zip(specs, fields, strict=True):
        assert differences(spec, view) == bicubic


@pytest.mark.parametrize("name", SAME_NAME)
def test_every_argument_of_lightly_means_the_same(name):
    signature = inspect.signature(peer(name)).parameters
    assert_same_views(name, {argument: parameter.default for argument, parameter in signature.items()})
    everything = {argument: VALUES[argument] for argument in signature}
    if name == "DINOTransform":
        everything["gaussian_blur"] = (0.9, 0.2, 0.4)
    assert_same_views(name, everything)
    for argument, value in everything.items():
        if argument not in ("crop_sizes", "crop_counts", "crop_min_scales", "crop_max_scales"):
            fixed = {OTHER_DEFAULT[name]: VALUES[OTHER_DEFAULT[name]]} if name in OTHER_DEFAULT else {}
            assert_same_views(name, {**fixed, argument: value})
    for degrees in (None, 30, 0.0, (45, 45)):
        assert_same_views(name, {**everything, "rr_degrees": degrees})
    for side in {"input_size", "global_crop_size", "local_crop_size"} & set(signature):
        assert_same_views(name, {**everything, side: (24, 40)})


@pytest.mark.parametrize("name", SAME_NAME)
def test_arguments_by_position_come_in_lightlys_order(name):
    ours = [
        p for p in inspect.signature(getattr(augment, name)).parameters.values() if p.kind == p.POSITIONAL_OR_KEYWORD
    ]
    theirs = list(inspect.signature(peer(name)).parameters.values())[: len(ours)]
    assert [p.name for p in ours] == [p.name for p in theirs]
    assert all(a.default == b.default or a.name == OTHER_DEFAULT.get(name) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
    ("name", "preset"),
    [
        ("SimCLRTransform", presets.simclr),
        ("MoCoV1Transform", presets.moco_v1),
        ("MoCoV2Transform", presets.moco_v2),
        ("SimSiamTransform", presets.simsiam),
        ("VICRegTransform", presets.vicreg),
        ("BYOLTransform", presets.byol),
        ("BarlowTwinsTransform", presets.barlow_twins),
        ("SwaVTransform", presets.swav),
        ("DINOTransform", presets.dino),
    ],
)
def test_without_arguments_the_preset(name, preset):
    assert getattr(augment, name)().specs == preset(224)


def test_sizes_below_imagenet_keep_its_numbers():
    """As in lightly; the CIFAR variant is the preset's."""
    view = SimCLRTransform(32).specs[0]
    assert view == presets.simclr(224)[0].replace(size=32, blur_kernel=3)
    assert SimCLRTransform(32, kernel_size=5).specs[0] == view.replace(blur_kernel=5)
    assert SimCLRTransform(32, kernel_size=None).specs[0] == view


def test_byol_from_two_views():
    first, second = augment.BYOLView1Transform(32, hf_prob=0.0), augment.BYOLView2Transform(48, solarization_prob=1.0)
    assert augment.BYOLTransform(first, second).specs == [*first.specs, *second.specs]
    assert augment.BYOLTransform(view_2_transform=second).specs == [presets.byol()[0], *second.specs]
    shapes = [tuple(view.shape) for view in augment.BarlowTwinsTransform(first, second)(IMAGES)]
    assert shapes == [(5, 3, 32, 32), (5, 3, 48, 48)]


def test_values_are_those_of_multi_view():
    batch = ImageBatch.from_dense(IMAGES)
    expected = MultiView(presets.simclr(16), seed=7)
    transform = Transform(presets.simclr(16), seed=7)
    for call in range(2):  # the calls count as epochs
        for view, reference in zip(transform(IMAGES), expected(batch, call).tensors, strict=True):
            assert torch.equal(view, reference)
    index = torch.tensor([9, 3, 8, 0, 5])
    chosen = transform(IMAGES, index=index, epoch=11)
    for view, reference in zip(chosen, expected(ImageBatch.from_dense(IMAGES, index), 11).tensors, strict=True):
        assert torch.equal(view, reference)
    assert transform.calls == 2  # a given epoch is not counted
    assert not torch.equal(*(Transform(presets.simclr(16), seed=s)(IMAGES)[0] for s in (1, 2)))


def test_the_count_is_restored():
    transform = SimCLRTransform(16, seed=3)
    transform(IMAGES)
    restored = SimCLRTransform(16, seed=3)
    restored.load_state_dict(transform.state_dict())
    copied = copy.deepcopy(transform)
    first = transform(IMAGES)
    for other in (restored(IMAGES), copied(IMAGES)):
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(
    "batch",
    [
        IMAGES.permute(0, 3, 1, 2).contiguous(),
        IMAGES.permute(0, 3, 1, 2),  # the channels_last memory format
        list(IMAGES),
        list(IMAGES.permute(0, 3, 1, 2)),
        tuple(image.numpy() for image in IMAGES),
        ImageBatch.from_dense(IMAGES),
    ],
    ids=["channels first", "channels_last format", "list", "list of channels first", "arrays", "ImageBatch"],
)
def test_inputs_are_the_same_images(batch):
    expected = Transform(presets.simclr(16))(IMAGES)
    assert all(torch.equal(a, b) for a, b in zip(Transform(presets.simclr(16))(batch), expected, strict=True))


def test_other_inputs():
    gray = Transform([ViewSpec(size=6, mean=(0.0,), std=(1.0,))])
    assert gray([IMAGES[0, ..., 0], IMAGES[1, :9, :, 0]])[0].shape == (2, 1, 6, 6)
    assert gray(IMAGES[:, :8, :8].permute(0, 3, 1, 2))[0].shape == (5, 3, 6, 6)  # 8 px could be channels; 3 are
    assert gray(IMAGES[:0])[0].shape == (0, 3, 6, 6)
    read_only = IMAGES[0].numpy().copy()
    read_only.flags.writeable = False
    assert gray([read_only])[0].shape == (1, 3, 6, 6)
    batch = ImageBatch.from_dense(IMAGES, index=torch.arange(5) + 100)
    flips = Transform([ViewSpec(size=20, hflip=0.5, mean=(0.0,), std=(1.0,))])
    assert torch.equal(flips(batch, epoch=0)[0], flips(IMAGES, index=batch.index, epoch=0)[0])


def test_dtype_and_layout():
    view = SimCLRTransform(16, dtype=torch.float16, channels_last=True)(IMAGES)[1]
    assert view.dtype == torch.float16 and view.is_contiguous(memory_format=torch.channels_last)


def test_multi_crop_shapes():
    swav = augment.SwaVTransform(
        crop_sizes=(24, 16, 8), crop_counts=(2, 1, 3), crop_min_scales=(0.1,) * 3, crop_max_scales=(1.0,) * 3
    )
    assert [view.shape[-1] for view in swav(IMAGES)] == [24, 24, 16, 8, 8, 8]
    dino = augment.DINOTransform(global_crop_size=24, local_crop_size=12, n_local_views=2)
    assert [view.shape[-1] for view in dino(IMAGES)] == [24, 24, 12, 12]


def test_what_is_drawn():
    """Shares of 4000 images (three standard errors: 0.024) and ranges of the parameters asked for."""
    images = ImageBatch.from_dense(IMAGES[:1].expand(4000, -1, -1, -1))
    options = {"cj_prob": 0.3, "cj_strength": 0.5, "random_gray_scale": 0.6, "gaussian_blur": 0.7, "vf_prob": 0.4}
    transform = SimCLRTransform(8, hf_prob=0.2, rr_prob=0.25, min_scale=0.5, sigmas=(0.5, 1.0), **options)
    views = transform.multi_view(images)
    for view in range(2):
        for name, share in (("hflip", 0.2), ("vflip", 0.4), ("grayscale", 0.6)):
            assert views.column(view, name).mean() == pytest.approx(share, abs=0.024)
        assert (views.column(view, "rotation") == 90).float().mean() == pytest.approx(0.25, abs=0.024)
        assert (views.column(view, "brightness") != 1).float().mean() == pytest.approx(0.3, abs=0.024)
        sigma = views.column(view, "blur_sigma")
        assert (sigma > 0).float().mean() == pytest.approx(0.7, abs=0.024)
        assert (
            sigma[sigma > 0].min() >= 0.5
            and sigma.max() <= 1.0
            and sigma[sigma > 0].mean() == pytest.approx(0.75, abs=0.01)
        )
        brightness, hue = views.column(view, "brightness"), views.column(view, "hue")
        assert 0.6 <= brightness.min() < 0.62 and 1.38 < brightness.max() <= 1.4
        assert -0.1 <= hue.min() < -0.095 and 0.095 < hue.max() <= 0.1
        area = views.column(view, "crop_height") * views.column(view, "crop_width") / (24 * 20)
        assert 0.45 < area.min() < 0.55 and area.max() > 0.95


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SimCLRTransform(32, cj_probability=0.5), "unknown option 'cj_probability'; did you mean 'cj_prob'"),
        (lambda: SimCLRTransform(32, rr_prob=0.5, rr_degrees=-30.0), "rr_degrees is -30.0; it must be 0 or more, or"),
        (
            lambda: SimCLRTransform(32, rr_prob=0.5, rr_degrees=(20, 10)),
            r"rotation_range is \(20, 10\); .* low <= high",
        ),
        (lambda: SimCLRTransform(32, rr_prob=1.5), "rotation_probability is 1.5; it must be a probability"),
        (lambda: SimCLRTransform(32, cj_hue=0.7), "ViewSpec.hue"),
        (lambda: SimCLRTransform(32, kernel_size=4), "ViewSpec.blur_kernel"),
        (lambda: augment.DINOTransform(min_scale=0.1), "unknown option 'min_scale'"),
        (lambda: augment.DINOTransform(gaussian_blur=0.5), "gaussian_blur is 0.5; it must be three probabilities"),
        (lambda: augment.SwaVTransform(crop_sizes=(8,)), r"they have \[1, 2, 2, 2\]"),
        (lambda: SimCLRTransform(8)(IMAGES / 255), "must be uint8"),
        (lambda: SimCLRTransform(8)(IMAGES[0]), r"must be \(B, C, H, W\) or \(B, H, W, C\)"),
        (lambda: SimCLRTransform(8)(IMAGES[:, :3, :, :]), "which dimension holds the channels"),
        (lambda: SimCLRTransform(8)([IMAGES[0, 0, :, 0]]), "must have height, width and channels"),
        (lambda: SimCLRTransform(8)("photo.jpg"), "not a uint8 tensor or array"),
        (lambda: SimCLRTransform(8)([Image.new("RGB", (4, 4))]), "convert a PIL image with"),
        (lambda: SimCLRTransform(8)(Image.new("RGB", (4, 4))), "got Image"),
        (
            lambda: SimCLRTransform(32, normalize={"mean": (0.5,)}),
            r"normalize is \{'mean': .*it must be \{'mean': …, 'std'",
        ),
        (lambda: SimCLRTransform(32, normalize=0.5), "normalize is 0.5"),
        (lambda: SimCLRTransform(32, sigmas=2.0), "ViewSpec.blur_sigma is 2.0; it must be a pair of finite numbers"),
        (lambda: SimCLRTransform(32, cj_strength="a"), "cj_strength is 'a'; it must be a finite number"),
        (lambda: SimCLRTransform(32, cj_hue=None), "cj_hue is None"),
        (lambda: SimCLRTransform(32, cj_prob=None), "ViewSpec.jitter is None"),
        (lambda: SimCLRTransform(32, rr_prob="a"), "rr_prob is 'a'"),
        (lambda: SimCLRTransform(32, rr_prob=0.5, rr_degrees=(1.0,)), r"rotation_range is \(1.0,\); .* a pair"),
        (lambda: SimCLRTransform(32, rr_prob=0.5, rr_degrees="a"), "rr_degrees is 'a'"),
        (lambda: SimCLRTransform("16"), "size is '16'; it must be a whole number or a pair of them"),
        (lambda: SimCLRTransform((16, 16, 16)), r"size is \(16, 16, 16\)"),
        (lambda: augment.SwaVTransform(crop_counts=(2, -1)), "an entry of crop_counts is -1"),
        (lambda: augment.SwaVTransform(crop_counts=2), r"they have \[2, 2, 2, 2\]"),
        (lambda: augment.DINOTransform(n_local_views=-3), "n_local_views is -3"),
        (lambda: augment.DINOTransform(global_crop_scale=0.5), "ViewSpec.crop_scale is 0.5"),
        (lambda: Transform("simclr"), "specs is 'simclr'"),
        (lambda: SimCLRTransform(8)(IMAGES, epoch=1.5), "epoch is 1.5"),
        (lambda: SimCLRTransform(8)(IMAGES, index=[0, 1, 2, 3, 4]), "index must be an int64 tensor, got list"),
        (lambda: SimCLRTransform(8)(IMAGES, index=torch.rand(5)), "index must hold whole numbers"),
        (lambda: SimCLRTransform(8)(IMAGES, index=torch.arange(4)), r"one entry per image: \(5,\), got \(4,\)"),
    ],
)
def test_what_cannot_be_done(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_without_a_probability_nothing_is_rotated():
    for degrees in (None, 30.0, (-20.0, 35.0)):
        assert SimCLRTransform(32, rr_prob=0.0, rr_degrees=degrees).specs == SimCLRTransform(32).specs


def test_views_of_two_sides():
    """The blur's window follows the longer side."""
    transform = SimCLRTransform((16, 64))
    assert transform.specs == [SimCLRTransform(64).specs[0].replace(size=(16, 64))] * 2
    assert [tuple(view.shape) for view in transform(IMAGES)] == [(5, 3, 16, 64)] * 2
    swav = augment.SwaVTransform(crop_sizes=((24, 16), 8), crop_counts=(1, 1))
    assert [tuple(view.shape[2:]) for view in swav(IMAGES)] == [(24, 16), (8, 8)]


def test_on_a_batch_from_dali():
    """What DALI's iterator for PyTorch returns, (B, H, W, C) uint8, goes in as it is."""
    dali = pytest.importorskip("nvidia.dali")
    from nvidia.dali.plugin.pytorch import DALIGenericIterator

    @dali.pipeline_def(batch_size=2, num_threads=1, device_id=None)
    def pipeline():
        return dali.fn.external_source(
            lambda info: IMAGES[info.idx_in_epoch % len(IMAGES)].numpy(), batch=False, dtype=dali.types.UINT8
        )

    batch = next(DALIGenericIterator([pipeline()], ["images"]))[0]["images"]
    assert torch.equal(batch, IMAGES[:2])
    expected = SimCLRTransform(16)(IMAGES[:2])
    assert all(torch.equal(a, b) for a, b in zip(SimCLRTransform(16)(batch), expected, strict=True))


def test_inside_a_pipeline():
    """A module among others: moved, printed, and called with what a loader gives."""
    pipeline = torch.nn.ModuleDict({"views": SimCLRTransform(16)}).to("cpu").eval()
    assert "sizes=[16, 16]" in repr(pipeline)
    loader = torch.utils.data.DataLoader([numpy.asarray(image) for image in IMAGES], batch_size=2)
    assert [view.shape[0] for batch in loader for view in pipeline["views"](batch)] == [2, 2, 2, 2, 1, 1]


def test_flipped_arrays_are_what_they_show():
    """numpy flips by a negative stride, which torch does not take."""
    transform = Transform(presets.simclr(8))
    flipped = transform([image.numpy()[:, ::-1] for image in IMAGES], epoch=0)
    assert all(map(torch.equal, flipped, transform(IMAGES.flip(2), epoch=0)))


def test_a_compiled_program_is_not_compiled_anew_for_every_call():
    torch.compiler.reset()
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    plain, transform = (Transform(presets.simclr(8)) for _ in range(2))
    draw = MultiView(presets.simclr(8))

    def program(images, epoch):
        views = transform(images)
        again = draw(ImageBatch.from_dense(images), epoch).tensors
        return views[0] * 2 + again[0]

    compiled = torch.compile(program, backend=backend)
    for epoch in range(10):
        expected = plain(IMAGES)[0] * 2 + draw(ImageBatch.from_dense(IMAGES), epoch).tensors[0]
        assert compiled(IMAGES, epoch).equal(expected)
    assert 1 <= len(graphs) <= 4
    torch.compiler.reset()
