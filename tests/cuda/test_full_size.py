"""Numerics and memory at the sizes of real training, against the CPU kernel."""

import pytest
import torch

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
