"""The CUDA kernel of augment where its reference does not reach: colour on many channels, images out of bounds."""

import pytest
import torch
from contract import assert_close
from ops.samples_augment import SMALL_SIZES, drawn, ragged, rows
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


@pytest.mark.parametrize(("height", "width", "channels"), [(7000, 4, 3), (4, 9000, 3), (4, 2000, 16)])
def test_view_that_no_shared_memory_holds_is_refused(height, width, channels):
    args = list(drawn(ragged([(4, 4)], channels), PLAIN))
    args[5:8] = [height, width, channels]
    with pytest.raises(RuntimeError, match="bytes of shared memory"):
        bench.call("augment", *args)
