"""Every CUDA kernel of the package, run by the bench on the small samples of its op's contract."""

import contract
import pytest
import torch
from simt import bench

CASES = {name: (op, sample) for name, op, sample in contract.cases(small_only=True)}

pytestmark = pytest.mark.simt


@pytest.mark.parametrize("case", CASES)
def test_kernel(case):
    """Equals the reference and the CPU kernel, and gives the same bits in whatever order its threads run."""
    op, sample = CASES[case]
    first, *others = [bench.call(op.name, *sample.args, seed=seed) for seed in bench.SEEDS]
    contract.assert_close(first, contract.as_tuple(op.reference(*sample.args)), op.atol)
    contract.assert_close(first, contract.call(op, sample), op.device_atol)
    for other in others:
        for ours, theirs in zip(first, other, strict=True):
            assert torch.equal(ours.nan_to_num(), theirs.nan_to_num()), "the order of the threads changes the result"


@pytest.mark.parametrize("name", contract.CONTRACTS)
@pytest.mark.parametrize("shift", [1, 2])
def test_inputs_inside_of_a_storage(name, shift):
    """Tensors that begin where no vector may be loaded give the same bits."""
    op = contract.load(name)
    for sample in [sample for sample in op.samples() if sample.small][:3]:
        shifted, plain = (bench.call(name, *sample.args, shift=s) for s in (shift, 0))
        for ours, theirs in zip(shifted, plain, strict=True):
            assert torch.equal(ours.nan_to_num(), theirs.nan_to_num())


def test_every_kernel_is_run():
    """An op whose contract has no small sample would pass unseen."""
    registered = {name.partition("::")[2] for name in torch._C._dispatch_get_all_op_names() if "sslfast_simt::" in name}
    examples = {name for name in registered if name.startswith("example")}
    assert registered - examples == {op.name for op, _ in CASES.values()}
