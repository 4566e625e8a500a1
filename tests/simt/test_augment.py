"""The CUDA kernel of augment where its reference does not reach: colour on many channels, images out of bounds."""

import pytest
import torch
from contract import assert_close
from ops.samples_augment import CONTRACT, SMALL_SIZES, drawn, ragged, rows
from simt import bench

from sslfast.augment import presets

pytestmark = pytest.mark.simt

PLAIN = presets.plain(12)[0].replace(mean=(0.4,), std=(0.25,))


@pytest.mark.parametrize("channels", [1, 2, 4, 16])
@pytest.mark.parametrize("channels_last", [False, True])
def test_any_number_of_channels(channels, channels_last):
    """Equals the CPU kernel, whose colours on many channels tests/ops compares with formulas."""
    jitter = {"brightness": 1.2, "contrast": 0.6, "saturation": 0.4, "hue": 0.3, "jitter_order": 9, "blur_sigma": 0.8}
    for columns in (jitter, {**jitter, "grayscale": 1.0, "blur_kernel": 1.0}):
        args = rows(ragged(SMALL_SIZES, channels), PLAIN, **{"blur_kernel": 9.0, **columns})
        args = (*args[:-1], channels_last)
        assert_close(bench.call("augment", *args), (torch.ops.sslfast.augment(*args),), 1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_image_outside_the_storage_becomes_nan(dtype):
    """Its neighbours stay as they are, and nothing is read out of bounds."""
    args = list(drawn(ragged([(8, 8)] * 3), PLAIN, dtype))
    expected = torch.ops.sslfast.augment(*args)
    for offset in (-1, 8 * 8 * 3 * 2 + 1, 1 << 40, (1 << 63) - 1):
        offsets = args[1].clone()
        offsets[1] = offset
        (got,) = bench.call("augment", args[0], offsets, *args[2:])
        assert got[1].isnan().all()
        assert_close((got[[0, 2]],), (expected[[0, 2]],), 1e-4)


@pytest.mark.parametrize("kibibytes", [48, 227])
def test_chips_with_less_or_more_shared_memory(kibibytes):
    """Other tiles, other passes of the blur, planes in shared memory or not: the same views."""
    with bench.shared_memory(kibibytes):
        for sample in CONTRACT.samples():
            if sample.small:
                expected = torch.ops.sslfast.augment(*sample.args)
                assert_close(bench.call("augment", *sample.args), (expected,), CONTRACT.device_atol)


def test_blocks_of_48_kibibytes():
    """What a kernel has without asking is for its variables too."""
    args = view_of(50, 50, 3, torch.bfloat16)
    with bench.shared_memory(227):
        assert_close(bench.call("augment", *args), (torch.ops.sslfast.augment(*args),), 1e-4)


BLUR = {"brightness": 1.2, "contrast": 0.6, "blur_sigma": 1.6, "blur_kernel": 15.0}


def view_of(height, width, channels, dtype=torch.float32, source=(9, 11), **columns):
    args = list(rows(ragged([source], channels), PLAIN, **columns))
    args[5:8] = [height, width, channels]
    args[10] = dtype
    return args


@pytest.mark.parametrize(
    ("kibibytes", "height", "width", "channels", "columns"),
    [
        (48, 2, 6300, 3, BLUR),
        (48, 3100, 2, 3, BLUR),
        (48, 12, 760, 16, {**BLUR, "rotation": 30.0}),
        (48, 3, 1300, 2, {**BLUR, "blur_sigma": 30.0, "blur_kernel": 201.0}),
        (48, 1, 500, 1, {"blur_sigma": 5000.0, "blur_kernel": 20001.0}),
        (48, 1, 9000, 1, {"blur_sigma": 900.0, "blur_kernel": 601.0}),
        (99, 4, 9000, 3, BLUR),
        (163, 2, 14000, 3, BLUR),
        (227, 1, 20000, 3, BLUR),
    ],
)
def test_views_longer_than_shared_memory(kibibytes, height, width, channels, columns):
    args = view_of(height, width, channels, **columns)
    with bench.shared_memory(kibibytes):
        assert_close(bench.call("augment", *args), (torch.ops.sslfast.augment(*args),), 1e-4)


def test_sixteen_planes_of_many_columns():
    """Their number of columns times their width is more than 2^32."""
    args = view_of(1, 24001, 16, torch.bfloat16, blur_sigma=0.5, blur_kernel=3.0)
    assert_close(bench.call("augment", *args), (torch.ops.sslfast.augment(*args),), 1e-4)


def test_sobel_of_more_rows_than_floats_fit():
    args = view_of(12100, 257, 1, source=(40, 300), sobel=1.0)
    with bench.shared_memory(48):
        assert_close(bench.call("augment", *args), (torch.ops.sslfast.augment(*args),), 1e-4)


def test_more_rows_than_an_old_chip_takes():
    args = view_of(30000, 1, 1)
    with bench.shared_memory(48), pytest.raises(RuntimeError, match="30000 rows needs 60000 bytes of shared memory"):
        bench.call("augment", *args)
    assert_close(bench.call("augment", *args), (torch.ops.sslfast.augment(*args),), 1e-4)
