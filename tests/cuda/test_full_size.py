"""Numerics and memory at the sizes of real training, against the CPU kernel."""

import pytest
import torch
from contract import assert_close
from ops.samples_augment import ragged, rows

from sslfast.augment import MultiView, presets
from sslfast.data.batch import ImageBatch
from sslfast.ops import nt_xent

pytestmark = pytest.mark.cuda


def photos(count, height, width):
    generator = torch.Generator().manual_seed(0)
    return ImageBatch.from_dense(
        torch.randint(0, 256, (count, height, width, 3), generator=generator, dtype=torch.uint8)
    )


@pytest.mark.parametrize(("count", "side", "view"), [(1024, 32, 32), (32, 256, 224)])
def test_simclr_views_equal_the_cpu_kernel(count, side, view):
    batch = photos(count, side, side)
    views = MultiView(presets.simclr(view), seed=3)
    ours, theirs = views(batch.to("cuda"), epoch=1), views(batch, epoch=1)
    for gpu, cpu in zip(ours.tensors, theirs.tensors, strict=True):
        # Solarize and the hue's sectors jump: a rounding may put a pixel on the other side.
        far = (gpu.cpu() - cpu).abs() > 1e-3
        assert far.float().mean() < 1e-5


JITTER = {"brightness": 1.2, "contrast": 0.6, "saturation": 0.4}
BLUR = {"blur_sigma": 1.6, "blur_kernel": 15.0}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("size", "channels", "columns"),
    [
        ((48, 20000), 3, JITTER | BLUR),
        ((20000, 48), 3, JITTER | BLUR),
        ((32, 9000), 16, BLUR | {"rotation": 30.0}),
        ((32768, 500), 1, {"sobel": 1.0}),
        ((3, 32768), 1, {"blur_sigma": 300.0, "blur_kernel": 2001.0}),
    ],
)
def test_views_longer_than_shared_memory(size, channels, columns, dtype):
    spec = presets.plain(40)[0].replace(size=size, mean=(0.4,), std=(0.25,))
    args = list(rows(ragged([(300, 400)], channels), spec, **columns))
    args[10] = dtype
    moved = [value.cuda() if isinstance(value, torch.Tensor) else value for value in args]
    assert_close((torch.ops.sslfast.augment(*moved).cpu(),), (torch.ops.sslfast.augment(*args),), 2e-4)


def test_image_beyond_2_gibibytes():
    """Offsets within an image that 32 bits do not hold: the last rows of a crop, and a crop behind them."""
    height, width = 24000, 40000
    if torch.cuda.mem_get_info()[0] < 8 << 30:
        pytest.skip("needs 8 GiB of free memory on the GPU")
    image = torch.arange(height, dtype=torch.int32).mul_(7).to(torch.uint8)[:, None, None].repeat(1, width, 3)
    for crop in ((0, 0, height, width), (23900, 39000, 100, 1000)):
        names = ("crop_top", "crop_left", "crop_height", "crop_width")
        spec = presets.plain(40)[0].replace(mean=(0.4,), std=(0.25,))
        args = rows(ImageBatch.from_dense(image[None]), spec, **dict(zip(names, map(float, crop), strict=True)))
        moved = [value.cuda() if isinstance(value, torch.Tensor) else value for value in args]
        assert_close((torch.ops.sslfast.augment(*moved).cpu(),), (torch.ops.sslfast.augment(*args),), 2e-4)


def test_image_of_too_many_columns_becomes_nan():
    spec = presets.plain(8)[0].replace(mean=(0.4,), std=(0.25,))
    args = list(rows(ragged([(4, 4)], 1), spec))
    args[0], args[2] = torch.zeros(1 << 27, dtype=torch.uint8), torch.tensor([[1, 1 << 27]], dtype=torch.int32)
    moved = [value.cuda() if isinstance(value, torch.Tensor) else value for value in args]
    assert torch.ops.sslfast.augment(*moved).isnan().all()


def test_nt_xent_at_batch_4096():
    generator = torch.Generator().manual_seed(0)
    z0, z1 = (torch.randn(4096, 128, generator=generator) for _ in range(2))

    def loss_and_gradients(device):
        pair = [z.to(device).requires_grad_() for z in (z0, z1)]
        loss = nt_xent(*pair, temperature=0.1)
        loss.backward()
        return loss.detach().cpu(), [z.grad.cpu() for z in pair]

    ours, theirs = loss_and_gradients("cuda"), loss_and_gradients("cpu")
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-5, atol=0)
    for gpu, cpu in zip(ours[1], theirs[1], strict=True):
        torch.testing.assert_close(gpu, cpu, rtol=1e-3, atol=1e-3 * cpu.abs().max().item())


def test_nt_xent_memory_is_linear():
    """No N x N matrix: at batch 8192 it would take 1 GiB."""
    pair = [torch.randn(8192, 128, device="cuda", requires_grad=True) for _ in range(2)]
    nt_xent(*pair, temperature=0.1).backward()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    nt_xent(*pair, temperature=0.1).backward()
    torch.cuda.synchronize()
    assert torch.cuda.max_memory_allocated() - before < 256 << 20
