"""Every op against its contract on the GPU, at full size too."""

import contract
import pytest
import torch

pytestmark = pytest.mark.cuda

CASES = {name: (op, sample) for name, op, sample in contract.cases()}


@pytest.mark.parametrize("case", CASES)
def test_values(case):
    contract.check_values(*CASES[case], device="cuda")


@pytest.mark.parametrize("case", CASES)
def test_equals_the_cpu_kernel(case):
    contract.check_devices(*CASES[case], device="cuda")


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
