"""augment beyond its contract: parity with torchvision on drawn parameters, independence of images, bad input."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.samples_augment import SMALL_SIZES, arguments, drawn, ragged
from ops.test_contracts import supported_instruction_sets
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from sslfast import ops
from sslfast.augment import presets
from sslfast.ops.reference.augment import augment as reference

PLAIN = presets.plain(12)[0].replace(mean=(0.0,), std=(1.0,))


def op(args):
    return torch.ops.sslfast.augment(*args)


def drawn_row(data, image, view, crop=None, hue=None, blur_sigma=None):
    """A row of the table with any of the operations but noise; what is given is not drawn."""
    height, width = image
    if crop is None:
        crop = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    fraction = st.floats(0, 1, width=32)
    cut = data.draw(st.integers(0, view[0] - 1)), data.draw(st.integers(0, view[1] - 1))
    return {
        "crop_top": data.draw(st.integers(0, height - crop[0])),
        "crop_left": data.draw(st.integers(0, width - crop[1])),
        "crop_height": crop[0],
        "crop_width": crop[1],
        "bicubic": data.draw(st.integers(0, 1)),
        "hflip": data.draw(st.integers(0, 1)),
        "vflip": data.draw(st.integers(0, 1)),
        "rotation": data.draw(st.one_of(st.sampled_from([0, 90, 180, 270]), st.floats(-360, 360, width=32))),
        "rotation_zoom": data.draw(st.sampled_from([1, 0.7, 2**0.5, 3])),
        "brightness": 2 * data.draw(fraction),
        "contrast": 2 * data.draw(fraction),
        "saturation": 2 * data.draw(fraction),
        "hue": data.draw(fraction) - 0.5 if hue is None else hue,
        "jitter_order": data.draw(st.integers(0, 23)),
        "grayscale": data.draw(st.integers(0, 1)),
        "blur_sigma": data.draw(st.sampled_from([0.0, 0.1, 0.7, 2.0, 7.0])) if blur_sigma is None else blur_sigma,
        "blur_kernel": data.draw(st.sampled_from([1, 3, 9, 23, 41])),
        "sobel": data.draw(st.integers(0, 1)),
        "solarize_threshold": data.draw(st.one_of(st.just(2.0), fraction)),
        "channel_drop": data.draw(st.integers(0, 7)),
        "cutout_top": cut[0],
        "cutout_left": cut[1],
        "cutout_height": data.draw(st.integers(0, view[0] - cut[0])),
        "cutout_width": data.draw(st.integers(0, view[1] - cut[1])),
    }


def assert_parity(batch, rows, view):
    """At most 2/255 and on average 1e-3 from torchvision, but where values that near the threshold are solarized."""

    def table(**changes):
        changed = [{**row, **changes} for row in rows]
        return torch.tensor([[float(row.get(name, 0)) for name in ops.AUGMENT_COLUMNS] for row in changed])

    images, keys = (batch.storage, batch.offsets, batch.sizes), torch.zeros(len(rows), dtype=torch.int64)
    got = ops.augment(*images, table(), keys, view, batch.channels)
    expected = reference(*images, table(), keys, view, batch.channels)
    before = reference(*images, table(solarize_threshold=2, channel_drop=0), keys, view, batch.channels)
    thresholds = table()[:, ops.AUGMENT_COLUMNS.index("solarize_threshold")].view(-1, 1, 1, 1)
    difference = torch.where((before - thresholds).abs() > 2 / 255, got - expected, 0.0).abs()
    assert difference.max() <= 2 / 255 and difference.mean() <= 1e-3


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_parity_with_torchvision(data):
    image = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90))
    view = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    batch = ragged([image], seed=data.draw(st.integers(0, 1000)), channels=data.draw(st.sampled_from([1, 3])))
    assert_parity(batch, [drawn_row(data, image, view)], view)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_parity_at_the_extremes(data):
    """Crops of one pixel, upscaling by 20 and more, downscaling by 10, the ends of the hue, narrow and wide blurs."""
    crop, view = data.draw(st.sampled_from([((1, 1), 33), ((3, 2), 64), ((300, 320), 30), ((200, 90), 18)]))
    image = crop[0] + data.draw(st.integers(0, 20)), crop[1] + data.draw(st.integers(0, 20))
    row = drawn_row(
        data,
        image,
        (view, view),
        crop,
        hue=data.draw(st.sampled_from([-0.5, 0.5])),
        blur_sigma=data.draw(st.sampled_from([0.1, 2.0])),
    )
    assert_parity(ragged([image], seed=data.draw(st.integers(0, 1000))), [row], (view, view))


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_parity_of_long_views(data):
    """Rows of more pixels than the CPU kernel's blocks, and columns of many strips."""
    view = data.draw(st.sampled_from([(2, 1100), (1, 1024), (1100, 2), (65, 130)]))
    image = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90))
    assert_parity(ragged([image]), [drawn_row(data, image, view)], view)


def test_ragged_batch_from_one_pixel_to_a_photograph():
    """1 x 1 to 2400 x 1632 images in one batch: parity, and the same bits alone as together."""
    sizes = [(1, 1), (2400, 1632), (1, 2400), (1632, 1), (32, 32), (375, 500), (7, 1632)]
    batch = ragged(sizes)
    args = drawn(batch, presets.simclr(64)[0].replace(blur=1.0, mean=(0.0,), std=(1.0,)))
    got = op(args)
    expected = reference(*args[:5], (64, 64))
    difference = (got - expected).abs()
    assert difference.max() <= 2 / 255 and difference.mean() <= 1e-3
    for b in range(len(sizes)):
        alone = [args[0], *(table[b : b + 1] for table in args[1:5]), *args[5:]]
        assert torch.equal(op(alone), got[b : b + 1])


@pytest.mark.parametrize("channels", [1, 3, 4, 16])
def test_channels_do_not_mix_without_colours(channels):
    """Each channel of a view that is moved, blurred and normalised is torchvision's view of that channel alone."""
    batch = ragged(SMALL_SIZES, channels)
    mean, std = tuple(0.1 + 0.05 * c for c in range(channels)), tuple(0.2 + 0.1 * c for c in range(channels))
    spec = presets.simclr(20)[0].replace(
        jitter=0.0, grayscale=0.0, blur=1.0, blur_kernel=5, vflip=0.5, rotation=(90.0,), mean=mean, std=std
    )
    args = drawn(batch, spec)
    views = op(args)
    assert views.shape == (len(batch), channels, 20, 20)
    for c in range(channels):
        plane = batch.from_list([batch.image(b)[..., c].clone() for b in range(len(batch))])
        expected = reference(
            plane.storage, plane.offsets, plane.sizes, *args[3:5], (20, 20), 1, mean[c:][:1], std[c:][:1]
        )
        torch.testing.assert_close(views[:, c : c + 1], expected, rtol=0, atol=1e-4)


def test_images_are_independent():
    """An image's view does not depend on what else is in the batch, nor on its place in it."""
    batch = ragged(SMALL_SIZES)
    spec = presets.simclr(12, 1.0)[0]
    whole = op(drawn(batch, spec))
    order = torch.tensor([3, 0, 4, 2, 1])
    assert torch.equal(op(drawn(batch.select(order), spec)), whole[order])
    for b in range(len(batch)):
        assert torch.equal(op(drawn(batch.select(torch.tensor([b])), spec)), whole[b : b + 1])


def test_thread_count_changes_nothing():
    args = drawn(ragged([(40, 30)] * 400), presets.simclr(16, 1.0)[0])
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = op(args)
        torch.set_num_threads(3)
        assert torch.equal(op(args), one)
    finally:
        torch.set_num_threads(threads)


def test_many_callers_at_once():
    """Calls from several threads, each of which wants helpers, neither wait for each other nor mix."""
    batches = [ragged([(40 + k, 30)] * 200, seed=k) for k in range(4)]
    calls = [drawn(batch, presets.simclr(16, 1.0)[0]) for batch in batches]
    expected = [op(args) for args in calls]
    with ThreadPoolExecutor(4) as callers:
        for k, got in enumerate(callers.map(lambda k: [op(calls[k]) for _ in range(10)], range(4))):
            assert all(torch.equal(views, expected[k]) for views in got)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_forked_process():
    """A process that was forked after views have been made has threads and memory of its own."""
    args = drawn(ragged([(40, 30)] * 400), presets.simclr(64, 1.0)[0])
    expected = op(args).numpy()
    child = os.fork()
    if child == 0:  # by numpy: torch's own threads do not survive a fork
        os._exit(0 if all(np.array_equal(op(args).numpy(), expected) for _ in range(2)) else 1)
    deadline = time.monotonic() + 60
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    if ended == (0, 0):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("the forked process hangs")
    assert os.waitstatus_to_exitcode(ended[1]) == 0


def large(value: int, channels_last: bool = False):
    """A result of some megabytes, whose memory is used again; all of `value` / 255."""
    batch = ragged([(4, 4)] * 8)
    batch.storage.fill_(value)
    return op(drawn(batch, PLAIN.replace(size=300), channels_last=channels_last))


def test_memory_is_used_again_when_nobody_holds_it():
    views = large(255)
    first = views.data_ptr()
    part, before = views[2:3, 1].numpy(), views[2:3, 1].clone().numpy()  # a view of a view, in another library
    del views
    others = [large(0) for _ in range(3)]
    assert first not in [other.data_ptr() for other in others]
    assert (part == before).all() and (part > 0.9).all()
    del part
    assert large(51).data_ptr() == first
    assert all((other == 0.0).all() for other in others)


@pytest.mark.parametrize("channels_last", [False, True])
def test_memory_format_of_a_large_result(channels_last):
    views = large(51, channels_last)
    fake = torch.empty_like(views, memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    assert views.stride() == fake.stride() and views.storage_offset() == 0
    torch.testing.assert_close(views, torch.full_like(views, 0.2))


def check_rounding():
    """float16 and bfloat16 results are the float32 result as torch rounds it, for every tie of either and much else."""
    black = ragged([(1, 1)] * 2, 16)
    black.storage.zero_()
    plain = PLAIN.replace(size=(3, 11))
    for dtype, fraction in ((torch.float16, 10), (torch.bfloat16, 7)):
        ties = (torch.arange(2**fraction) + 0.5) * 2.0**-fraction + 1.0
        values = torch.cat([sign * scale * ties for sign in (-1, 1) for scale in (2.0**-3, 1.0, 4.0)])
        near = torch.cat([values, values.nextafter(torch.tensor(9.0)), values.nextafter(torch.tensor(-9.0))])
        for some in near.split(16):
            exact = torch.nn.functional.pad(some, (0, 16 - len(some)))
            spec = plain.replace(mean=tuple((-exact).tolist()), std=(1.0,) * 16)
            for channels_last in (False, True):
                args = drawn(black, spec, channels_last=channels_last)
                wide, narrow = op(args), op((*args[:10], dtype, channels_last))
                assert torch.equal(wide[0, :, 0, 0], exact)
                assert torch.equal(narrow.view(torch.int16), wide.to(dtype).view(torch.int16))
    batch = ragged([(30, 40)] * 3)
    for std in (1e-7, 1e-4, 0.22, 1e3, 1e7):  # to infinity, and to what is too small for float16
        for channels_last in (False, True):
            args = drawn(batch, PLAIN.replace(size=(31, 17), std=(std,)), channels_last=channels_last)
            for dtype in (torch.float16, torch.bfloat16):
                narrow = op((*args[:10], dtype, channels_last))
                assert torch.equal(narrow.view(torch.int16), op(args).to(dtype).view(torch.int16))


@pytest.mark.parametrize("isa", supported_instruction_sets())
def test_rounding_in_every_instruction_set(isa):
    code = "from ops.test_augment import check_rounding\ncheck_rounding()\nprint('ok')"
    path = os.pathsep.join(p for p in sys.path if p)
    environment = {**os.environ, "SSLFAST_CPU_ISA": isa, "PYTHONPATH": path}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0 and result.stdout.strip() == "ok", result.stderr[-2000:]


@pytest.mark.parametrize("width", [20, 70, 100, 140, 165, 400])
def test_every_downscale(width):
    """Columns lie in two, three or four registers, or too far apart; from rows short and long."""
    batch = ragged([(61, width), (40, width + 1)])
    for channels_last in (False, True):
        args = drawn(batch, PLAIN.replace(size=(33, 50), hflip=0.5), channels_last=channels_last)
        torch.testing.assert_close(op(args), reference(*args[:5], (33, 50)), rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [(210, 240), (211, 239)])
def test_result_larger_than_the_caches(size):
    """It goes past the caches, and is what the images give few at a time; rows begin anywhere in a register."""
    batch = ragged([(20 + b, 30) for b in range(40)])
    spec = presets.simclr(12)[0].replace(size=size, cutout=0.5)
    whole = op(drawn(batch, spec))
    assert whole.nbytes > 2**24
    for begin in range(0, 40, 8):
        assert torch.equal(op(drawn(batch.select(slice(begin, begin + 8)), spec)), whole[begin : begin + 8])


def test_right_angles_move_pixels_exactly():
    batch = ragged([(12, 12)])
    upright = op(drawn(batch, PLAIN))
    for quarter in range(4):
        turned = op(drawn(batch, PLAIN.replace(rotation=(90.0 * quarter,))))
        torch.testing.assert_close(turned, torch.rot90(upright, quarter, (2, 3)), rtol=0, atol=0)


@pytest.mark.parametrize("image", [(64, 64), (64, 90), (70, 64)])
def test_central_crop_is_torchvisions(image):
    """Seven eighths of the largest square: of 64 px the inner 56, as they are, and then half as large."""
    batch = ragged([image] * 2)
    for size in (56, 28):
        views = op(drawn(batch, PLAIN.replace(size=size, center_fraction=0.875)))
        for b, view in enumerate(views):
            inner = F.center_crop(batch.image(b).permute(2, 0, 1).float() / 255, [56, 56])
            torch.testing.assert_close(view, F.resize(inner, [size, size]), rtol=0, atol=1e-4)


def test_drawn_angles_rotate_as_torchvision_does():
    """Every angle of a range, on views of two shapes: parity with torchvision's rotate by the angle in the table."""
    for size in ((48, 48), (31, 70)):
        batch = ragged([size] * 24)
        spec = PLAIN.replace(size=size, rotation_range=(-170.0, 190.0), rotation_probability=0.8)
        args = drawn(batch, spec)
        angles = args[3][:, ops.AUGMENT_COLUMNS.index("rotation")]
        assert 0 < (angles == 0).sum() < 12 and angles.min() < -90 and angles.max() > 90
        for b, view in enumerate(op(args)):
            image = batch.image(b).permute(2, 0, 1).float() / 255
            expected = F.rotate(image, float(angles[b]), InterpolationMode.BILINEAR)
            assert (view - expected).abs().max() <= 2 / 255 and (view - expected).abs().mean() <= 1e-3


def test_noise_statistics():
    batch = ragged([(1, 1)])
    batch.storage.fill_(128)
    gray = 128 / 255
    size = PLAIN.replace(size=200)
    noisy = op(drawn(batch, size.replace(noise_gaussian=0.1))) - gray
    assert abs(noisy.mean()) < 2e-3 and abs(noisy.std() - 0.1) < 2e-3
    assert abs(noisy[0, 0].flatten() @ noisy[0, 1].flatten()) / 4e4 < 2e-4  # channels are independent
    spoiled = op(drawn(batch, size.replace(noise_salt_pepper=0.2)))
    assert abs((spoiled == 0).float().mean() - 0.1) < 5e-3 and abs((spoiled == 1).float().mean() - 0.1) < 5e-3
    masked = op(drawn(batch, size.replace(noise_masking=0.5)))
    assert abs((masked == 0).float().mean() - 0.5) < 1e-2
    assert torch.equal(masked[0, 0] == 0, masked[0, 2] == 0)  # a pixel loses all its channels


def test_many_channels():
    """Other than three channels: gray is the mean of the channels, hue does nothing."""
    batch = ragged([(8, 8)], channels=16)
    spec = PLAIN.replace(size=8)
    params, keys = ops.augment_params(spec, batch.index, batch.sizes)
    image = batch.image(0).permute(2, 0, 1).float() / 255
    torch.testing.assert_close(op(arguments(batch, params, keys, spec))[0], image, rtol=0, atol=1e-6)
    params[:, ops.AUGMENT_COLUMNS.index("hue")] = 0.3
    params[:, ops.AUGMENT_COLUMNS.index("saturation")] = 0.25
    expected = 0.25 * image + 0.75 * image.mean(0, keepdim=True)
    torch.testing.assert_close(op(arguments(batch, params, keys, spec))[0], expected, rtol=0, atol=1e-6)


def test_crop_outside_the_image_is_cut():
    batch = ragged([(6, 6)])
    params, keys = ops.augment_params(PLAIN, batch.index, batch.sizes)
    for bad in (1e9, -1e9, float("nan"), float("inf")):
        params[:, :4] = bad
        assert op(arguments(batch, params, keys, PLAIN)).isfinite().all()


BAD_ARGUMENTS = {
    "storage must be uint8": lambda a: a.update(storage=a["storage"].float()),
    "offsets must be int64": lambda a: a.update(offsets=a["offsets"].int()),
    "sizes must have shape": lambda a: a.update(sizes=a["sizes"][:2]),
    "params must have shape": lambda a: a.update(params=a["params"][:, :5]),
    "noise_key must have shape": lambda a: a.update(noise_key=a["noise_key"][:1]),
    "must be contiguous": lambda a: a.update(params=a["params"].t().contiguous().t()),
    "channels must be 1 to 16": lambda a: a.update(channels=17),
    "size must be 1 to 32768": lambda a: a.update(height=0),
    "mean and std have 2 and 1 entries": lambda a: a.update(mean=[0.1, 0.2]),
    "std must be above 0": lambda a: a.update(std=[0.0]),
    "dtype must be float32, float16 or bfloat16": lambda a: a.update(dtype=torch.float64),
    "does not lie inside the storage": lambda a: a.update(offsets=a["offsets"] + 1),
    r"image 1 \(offset -1": lambda a: a["offsets"].__setitem__(1, -1),
    "image 2": lambda a: a["sizes"].__setitem__(2, 2**30),
    r"offset 9223372036854775807": lambda a: a["offsets"].__setitem__(0, 2**63 - 1),
    "1073741824 x 1073741824 x 16 bytes": lambda a: a.update(channels=16) or a["sizes"].__setitem__(0, 2**30),
}


@pytest.mark.parametrize("message", BAD_ARGUMENTS)
def test_bad_input(message):
    names = ["storage", "offsets", "sizes", "params", "noise_key", "height", "width", "channels", "mean", "std"]
    arguments = dict(zip([*names, "dtype", "channels_last"], drawn(ragged(SMALL_SIZES), PLAIN), strict=True))
    BAD_ARGUMENTS[message](arguments)
    with pytest.raises(RuntimeError, match=message):
        op(arguments.values())
