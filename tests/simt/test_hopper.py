"""csrc/stable/hopper.h on the bench: products of a warp group, bulk copies and barriers in shared memory."""

import re

import pytest
import torch
from simt import bench

pytestmark = pytest.mark.simt


@pytest.fixture(autouse=True)
def hopper():
    with bench.hopper():
        yield


def operands(columns, depth, dtype, path):
    """A (64, K), and B (N, K) or, for A in registers, (K, N)."""
    generator = torch.Generator().manual_seed(depth)
    a = torch.randn(64, depth, generator=generator).to(dtype)
    b = torch.randn(columns, depth, generator=generator).to(dtype)
    return a, (b.T.contiguous() if path == "registers" else b), a.double() @ b.double().T


def product(path, bug, a, b, columns, seed=0):
    return bench.call("example_warpgroup", path, bug, a, b, columns, seed=seed)[0]


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
@pytest.mark.parametrize(("columns", "depth"), [(64, 64), (128, 192), (64, 320)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("path", ["shared", "registers"])
def test_products(path, dtype, columns, depth, seed):
    """Random numbers tell every element's place apart, and any moment for a copy to arrive gives the same bits."""
    a, b, exact = operands(columns, depth, dtype, path)
    torch.testing.assert_close(product(path, "none", a, b, columns, seed), exact.float(), rtol=1e-6, atol=1e-4)


# What the message says after naming kernel, block and thread; planted where A lies in `path`.
NOT_AWAITED = "it reads what a bulk copy begun at .* writes, and has not waited for its barrier"
BUGS = {
    "full_not_awaited": f"{NOT_AWAITED}|a product reads shared memory that nothing has written",
    "empty_not_awaited": "it writes what a (product of warp|bulk copy)|the mbarrier has had all its arrivals",
    "released_early": "race on shared memory: it writes what a product of warp . reads",
    "products_not_awaited": "it writes what a product of warp|it returns while its products are under way",
    "products_not_fenced": "no wgmma_fence before products of registers that other instructions have used",
    "too_few_bytes": "never ends: phase 0 of the mbarrier lacks 0 arrivals and -16 bytes",
    "too_many_bytes": "never ends: phase 0 of the mbarrier lacks 0 arrivals and 16 bytes",
    "missing_arrival": "never ends: phase 1 of the mbarrier lacks 1 arrivals and 0 bytes",
    "wrong_parity": f"{NOT_AWAITED}|a product reads shared memory that nothing has written",
    "barrier_not_fenced": "the copy engine does not see the mbarrier",
    "barrier_not_initialised": "it uses an mbarrier that has not been initialised",
    "no_barrier_after_init": "it uses an mbarrier that has not been initialised|race on shared memory: it updates",
    "plain_write_not_fenced": "has written without a fence_async_proxy|race on shared memory: it reads what thread",
    "sums_written": "the sums of a product under way have been written",
    "operand_written": "the left operand of a product under way has been written",
    "warp_is_missing": "the four warps of its warp group have not called the same products",
    "left_early": "the block ends while a bulk copy is under way|bytes of a bulk copy have not been announced",
    "inside_of_pattern": "the matrix begins inside of the pattern of its swizzle",
    "stage_overflow": "an asynchronous unit touches 8192 bytes out of bounds, across the end of dynamic shared memory",
}


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
@pytest.mark.parametrize("bug", BUGS)
def test_bug_is_found(bug, seed):
    path = "registers" if bug == "operand_written" else "shared"
    a, b, _ = operands(64, 320, torch.float16, path)
    with pytest.raises(RuntimeError) as caught:
        product(path, bug, a, b, 64, seed)
    message = str(caught.value)
    assert re.search(BUGS[bug], message), message
    assert re.search(r"sslfast::warpgroup_product<.*, block \(0, 0, 0\), thread \(\d+, 0, 0\)", message), message


def test_sums_are_poison_until_the_wait():
    """Reading them early is no error of its own: the bench makes it NaN."""
    a, b, exact = operands(64, 128, torch.float16, "shared")
    result = product("shared", "sums_read_early", a, b, 64)
    assert result[:, 0].view(4, 2, 8)[:, 0].isnan().all()
    torch.testing.assert_close(result[:, 1:], exact[:, 1:].float(), rtol=1e-6, atol=1e-4)


def test_shared_memory():
    """227 KiB a block, more than the 200 KiB that an sm_80 chip refuses."""
    with pytest.raises(RuntimeError, match="global memory"):  # past the limit of the launch: the small tensors end
        bench.call("example", "too_much_shared", torch.zeros(1), [1], torch.float32)
