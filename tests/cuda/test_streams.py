"""Streams, graphs and devices: an op runs where torch says, and the host never waits for it."""

import time
from concurrent.futures import ThreadPoolExecutor

import contract
import pytest
import torch
from ops.samples_augment import drawn, ragged

from sslfast.augment import presets

pytestmark = pytest.mark.cuda

# One sample an op that does real work.
SAMPLES = {name: next(s for s in contract.load(name).samples() if s.args[0].numel() > 0) for name in contract.CONTRACTS}
SLEEP_CYCLES = 1 << 30  # about half a second


def on_gpu(sample, device="cuda"):
    return [value.to(device) if isinstance(value, torch.Tensor) else value for value in sample.args]


def function(name):
    return getattr(torch.ops.sslfast, name)


def expect(name, sample, results):
    op = contract.load(name)
    got = tuple(result.cpu() for result in contract.as_tuple(results))
    contract.assert_close(got, contract.call(op, sample), op.device_atol)


@pytest.mark.parametrize("name", SAMPLES)
def test_runs_on_the_current_stream(name):
    """The input is written on a side stream that is late: an op on another stream would read the old bytes."""
    args = on_gpu(SAMPLES[name])
    late = args[0]
    right = late.clone()
    late.zero_()
    function(name)(*args)  # loads the kernel, so that the first use is not what is measured
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(SLEEP_CYCLES)
        late.copy_(right)
        results = function(name)(*args)
    stream.synchronize()
    expect(name, SAMPLES[name], results)


@pytest.mark.parametrize("name", SAMPLES)
def test_host_does_not_wait(name):
    """While the stream sleeps, the op must return; torch's own waits raise an error."""
    args = on_gpu(SAMPLES[name])
    function(name)(*args)
    torch.cuda.synchronize()
    stream = torch.cuda.current_stream()
    torch.cuda.set_sync_debug_mode("error")
    try:
        torch.cuda._sleep(SLEEP_CYCLES)
        begin = time.perf_counter()
        results = function(name)(*args)
        seconds = time.perf_counter() - begin
        still_asleep = not stream.query()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    assert still_asleep, f"the op returned after {seconds:.3f} s, when the stream had finished"
    expect(name, SAMPLES[name], results)


@pytest.mark.parametrize("name", SAMPLES)
def test_scratch_memory_outlives_the_op(name):
    """Scratch is given back while kernels are still in flight: other work on the stream must not disturb them."""
    args = on_gpu(SAMPLES[name])
    torch.cuda._sleep(SLEEP_CYCLES // 8)
    results = [function(name)(*args) for _ in range(8)]
    junk = [torch.full((1 << 20,), float("nan"), device="cuda") for _ in range(8)]
    for result in results:
        expect(name, SAMPLES[name], result)
    assert all(tensor.isnan().all() for tensor in junk)


@pytest.mark.parametrize("name", SAMPLES)
def test_cuda_graph(name):
    """Captured once, replayed with other input: the same as a direct call."""
    args = on_gpu(SAMPLES[name])
    changing = args[0]
    right = changing.clone()
    changing.copy_(right.roll(1, 0))
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        function(name)(*args)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = function(name)(*args)
    for _ in range(2):
        changing.copy_(right)
        graph.replay()
        torch.cuda.synchronize()
        expect(name, SAMPLES[name], results)
        changing.copy_(right.roll(1, 0))


@pytest.mark.parametrize("name", SAMPLES)
def test_device_of_the_tensors(name):
    """Tensors on the second GPU while the first is current."""
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    with torch.cuda.device(0):
        results = function(name)(*on_gpu(SAMPLES[name], "cuda:1"))
        assert torch.cuda.current_device() == 0
    assert all(result.device.index == 1 for result in contract.as_tuple(results))
    expect(name, SAMPLES[name], results)


# Views whose blocks take different amounts of shared memory: what a kernel has without asking, less the variables, and
# more than that.
SIDES = (50, 52, 60)


def views_of(side):
    spec = presets.simclr(side)[0].replace(blur=1.0)
    return on_gpu(contract.Sample("views", drawn(ragged([(90, 70)] * 4), spec, torch.bfloat16)))


def test_launches_from_several_threads():
    """What one thread lets a kernel have of shared memory, another thread's launch must not take back."""
    args = {side: views_of(side) for side in SIDES}
    right = {side: function("augment")(*args[side]) for side in SIDES}

    def work(side):
        results = [function("augment")(*args[side]) for _ in range(300)]
        return all(torch.equal(result, right[side]) for result in results)

    with ThreadPoolExecutor(len(SIDES)) as pool:
        assert all(pool.map(work, SIDES))


def test_graph_replayed_after_smaller_launches():
    large, small = views_of(60), views_of(52)
    right = function("augment")(*large)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = function("augment")(*large)
    function("augment")(*small)
    graph.replay()
    assert torch.equal(result, right)


def test_work_goes_on_after_a_refused_launch():
    """A call that the chip cannot serve raises, and leaves no error behind for the next one."""
    args = views_of(224)
    right = function("augment")(*args)
    refused = [*args[:5], 32768, 32768, *args[7:]]
    with pytest.raises(RuntimeError, match=r"less than 2\^31|out of memory"):
        function("augment")(*refused)
    assert torch.equal(function("augment")(*args), right)
