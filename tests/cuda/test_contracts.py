"""Every op against its contract on the GPU, at full size too."""

import contract
import pytest
import torch
from simt import bench

pytestmark = pytest.mark.cuda

CASES = {name: (op, sample) for name, op, sample in contract.cases()}


@pytest.mark.parametrize("case", CASES)
def test_values(case):
    contract.check_values(*CASES[case], device="cuda")


@pytest.mark.parametrize("case", CASES)
def test_equals_the_cpu_kernel(case):
    contract.check_devices(*CASES[case], device="cuda")


@pytest.mark.parametrize("name", contract.CONTRACTS)
@pytest.mark.parametrize("shift", [1, 2])
def test_inputs_inside_of_a_storage(name, shift):
    """Tensors that begin where no vector may be loaded: the chip stops at a misaligned one."""
    op = contract.load(name)
    for sample in op.samples()[:3]:
        moved = [value.cuda() if isinstance(value, torch.Tensor) else value for value in sample.args]
        shifted = [bench.copy_of(v, shift) if isinstance(v, torch.Tensor) and v.is_contiguous() else v for v in moved]
        function = getattr(torch.ops.sslfast, name)
        for ours, theirs in zip(*(contract.as_tuple(function(*args)) for args in (shifted, moved)), strict=True):
            assert torch.equal(ours.nan_to_num(), theirs.nan_to_num())


@pytest.mark.parametrize("name", contract.CONTRACTS)
def test_registration(name):
    op = contract.load(name)
    for sample in op.samples()[:2]:
        contract.check_registration(op, sample, device="cuda")


@pytest.mark.parametrize("name", contract.CONTRACTS)
def test_compile(name):
    op = contract.load(name)
    contract.check_compile(op, op.samples()[0], device="cuda")


@pytest.mark.parametrize("name", contract.CONTRACTS)
def test_wrong_device_is_refused(name):
    """One tensor on the GPU and one on the CPU: an exception, never a crash."""
    op = contract.load(name)
    sample = op.samples()[0]
    function = getattr(torch.ops.sslfast, name)
    tensors = [k for k, value in enumerate(sample.args) if isinstance(value, torch.Tensor)]
    for stays in tensors[1:]:
        args = [v.cuda() if isinstance(v, torch.Tensor) and k != stays else v for k, v in enumerate(sample.args)]
        with pytest.raises(RuntimeError, match="device"):
            function(*args)
    torch.cuda.synchronize()
