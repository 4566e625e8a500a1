"""nt_xent's Hopper kernels, which are off by default: a process of its own switches them on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.cuda

HERE = Path(__file__).resolve().parent
NAMES_OF_KERNELS = """
import torch
from torch.profiler import ProfilerActivity, profile
from sslfast.ops.nt_xent import negatives_logsumexp

with profile(activities=[ProfilerActivity.CUDA]) as profiler:
    for count in (512, 16384):
        rows = torch.nn.functional.normalize(torch.randn(count, 128, device="cuda")).half().requires_grad_()
        negatives_logsumexp(rows, None, torch.arange(count, device="cuda")[:, None], 0.2).sum().backward()
    torch.cuda.synchronize()
print(*(event.key for event in profiler.key_averages()), sep="\\n")
"""


def run(*command):
    """The output of `python command` with the Hopper kernels switched on."""
    if torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("these kernels need a GPU of compute capability 9.0")
    environment = {**os.environ, "SSLFAST_NT_XENT_HOPPER": "1"}
    result = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    return result.stdout


def test_they_run():
    names = run("-c", NAMES_OF_KERNELS)
    for kernel in ("forward", "mirrored", "backward"):
        assert f"nt_xent_hopper_{kernel}_kernel" in names


@pytest.mark.parametrize("file", ["test_nt_xent.py", "test_contracts.py"])
def test_parity(file):
    """What the portable path is held to, they keep too."""
    run("-m", "pytest", "-q", "-x", str(HERE / file), "-k", "nt_xent")
