"""Every kind of bug that the bench promises to find, planted in a small kernel (kernels/planted.cu), and its cure."""

import re

import pytest
import torch
from simt import bench

pytestmark = pytest.mark.simt

# What the message says after naming kernel, block and thread.
UNWRITTEN = "it reads shared memory that no thread of the block has written"
BUGS = {
    "missing_barrier": f"{UNWRITTEN}|race on shared memory: it reads what thread .* has written at planted.cu",
    "missing_warp_barrier": f"{UNWRITTEN}|race on shared memory: it reads what thread .* has written at planted.cu",
    "missing_partial_barrier": f"{UNWRITTEN}|race on shared memory: it reads what thread .* has written at planted.cu",
    "missing_second_barrier": "race on shared memory: it (reads|writes)",
    "same_place": "race on shared memory: it writes what thread .* has written",
    "unwritten_shared": UNWRITTEN,
    "dynamic_shared_too_small": "writes 4 bytes out of bounds, 0 bytes past the end of dynamic shared memory",
    "pointer_overflow": "writes 4 bytes out of bounds, 0 bytes past the end of shared tile of 256 bytes",
    "row_overflow": "index 32 is out of bounds of its array",
    "local_array": r"index \d+ is out of bounds of its array",
    "missing_tail_guard": r"writes 4 bytes out of bounds, \d+ bytes past the end of global memory of 400 bytes",
    "before_the_start": "reads 4 bytes out of bounds, 4 bytes before the start of global memory of 400 bytes",
    "barrier_in_branch": r"the barrier at planted.cu:\d+ is not reached by all threads: thread .* has returned",
    "return_before_barrier": r"the barrier at planted.cu:\d+ is not reached by all threads: thread .* has returned",
    "two_barriers": r"the barrier at planted.cu:\d+ is not reached by all threads: thread .* waits at planted.cu:\d+",
    "lane_is_missing": r"a warp collective at planted.cu:\d+ is not reached by all lanes of its mask: .* returned",
    "mask_without_caller": "the mask of the warp collective at planted.cu:\\d+ does not name the calling lane",
    "blocks_write_one_place": "race on global memory: it writes what block .* has written at planted.cu:.* same launch",
    "missing_fence": "race on global memory: it reads what block .* has written",
    "atomic_and_plain": "race on shared memory",
    "unwritten_global": "reads global memory that nothing has written",
    "host_pointer": "reads 4 bytes out of bounds, which is no tensor",
    "misaligned": "misaligned access: 16 bytes at an address that is not a multiple of 16",
    "misaligned_store": "misaligned access: 16 bytes at an address that is not a multiple of 16",
    "local_of_another_thread": "out of bounds, in another thread's local memory",
    "endless": "it does not end",
    "copy_not_awaited": UNWRITTEN,
}


def right_result(bug: str, x: torch.Tensor) -> torch.Tensor:
    padded = torch.cat([x, torch.zeros(128 - len(x))])
    by_lane = torch.arange(128)
    if bug == "missing_barrier":
        return padded.view(2, 64).flip(1).reshape(-1)[: len(x)]
    if bug == "missing_warp_barrier":
        return padded.view(4, 32).flip(1).reshape(-1)[: len(x)]
    if bug == "missing_second_barrier":
        return sum(x[step * 64 % len(x) + ((by_lane + 40) % 64) % 32] for step in range(3))[: len(x)]
    if bug == "missing_partial_barrier":
        values, lane = x[by_lane % len(x)].view(4, 32), torch.arange(32)
        across = torch.where(lane < 16, 31 - lane, lane - 16).clamp(min=0)
        middle = ((lane >= 8) & (lane < 24)).float()
        return (values[:, lane ^ 15] + middle * values[:, across]).reshape(-1)[: len(x)]
    if bug == "same_place":
        return x[:1].expand(len(x))
    if bug == "unwritten_shared":
        return x + torch.cat([x[1:], torch.zeros(1)])
    if bug == "before_the_start":
        return torch.cat([torch.zeros(1), x[:-1]])
    if bug == "lane_is_missing":
        values = x[by_lane % len(x)].view(4, 32)
        return torch.cat([values[:, 1:], values[:, -1:]], 1).reshape(-1)[: len(x)]
    if bug == "mask_without_caller":
        return torch.full_like(x, 32.0)
    if bug == "missing_fence":
        return (x[0] + x[1]).expand(len(x))
    if bug == "atomic_and_plain":
        return torch.ones_like(x)
    if bug == "local_array":
        index = torch.arange(len(x))
        return x[(index + index % 4) % len(x)]
    return x


# The endless loop takes a second to be found, in any order.
@pytest.mark.parametrize(("bug", "seed"), [(bug, s) for bug in BUGS for s in range(1 if bug == "endless" else 4)])
def test_bug_is_found(bug, seed):
    x = torch.rand(100, generator=torch.Generator().manual_seed(seed))
    with pytest.raises(RuntimeError) as caught:
        bench.call("example_planted", bug, True, x, seed=seed)
    message = str(caught.value)
    assert re.search(BUGS[bug], message), message
    place = r"kernel sslfast::(\w+), block \(\d+, \d+, \d+\), thread \(\d+, \d+, \d+\)"
    named = re.search(place, message)
    assert named is not None and named.group(1) == bug, message


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("bug", BUGS)
def test_cure_passes(bug, seed):
    """The same kernel without the bug: no false alarm, and what it computes is right."""
    x = torch.rand(100, generator=torch.Generator().manual_seed(seed))
    (result,) = bench.call("example_planted", bug, False, x, seed=seed)
    torch.testing.assert_close(result, right_result(bug, x).contiguous(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("broken", [False, True])
def test_shuffle_from_outside_of_the_mask(broken):
    """The value is undefined, which is no error until it is used: the bench makes it NaN."""
    x = torch.rand(64)
    (result,) = bench.call("example_planted", "shuffle_from_outside", broken, x)
    halves = result.view(4, 16)
    assert halves[::2].isnan().all() if broken else torch.equal(halves[::2], x.view(4, 16)[::2, 15:].expand(2, 16))
    assert torch.equal(halves[1::2], x.view(4, 16)[1::2])


def test_bench_works_after_an_error():
    """Threads that stand in the middle of a kernel are given up; the next launch begins afresh."""
    x = torch.rand(100)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="missing_barrier"):
            bench.call("example_planted", "missing_barrier", True, x)
        (result,) = bench.call("example_planted", "missing_barrier", False, x)
        assert result[0] == x[63]


def test_line_of_the_bug_is_named():
    source = (bench.HERE / "kernels" / "planted.cu").read_text().splitlines()
    with pytest.raises(RuntimeError) as caught:
        bench.call("example_planted", "missing_tail_guard", True, torch.rand(100))
    line = int(re.search(r"at planted\.cu:(\d+)", str(caught.value)).group(1))
    assert "out[i] = in[i % count]" in source[line - 1]


def test_a_changed_input_is_found():
    """The bench itself compares the inputs: an op may write only what its schema marks as written."""
    assert bench.changed(torch.tensor([1.0]), torch.tensor([2.0]))
    assert not bench.changed(torch.tensor([float("nan")]), torch.tensor([float("nan")]))
