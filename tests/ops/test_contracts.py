"""Every op against its contract, on the CPU."""

import os
import subprocess
import sys
from pathlib import Path

import contract
import pytest

CASES = list(contract.cases(cpu=True))
BY_ID = {name: (op, sample) for name, op, sample in CASES}


@pytest.mark.parametrize("case", BY_ID)
def test_values(case):
    contract.check_values(*BY_ID[case])


@pytest.mark.parametrize("name", contract.CONTRACTS | contract.CPU_CONTRACTS)
def test_registration(name):
    op = contract.load(name)
    for sample in op.samples()[:2]:
        contract.check_registration(op, sample)


@pytest.mark.parametrize("name", contract.CONTRACTS | contract.CPU_CONTRACTS)
def test_compile(name):
    op = contract.load(name)
    contract.check_compile(op, op.samples()[0])


def supported_instruction_sets():
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    needs = {
        "baseline": set(),
        "avx2": {"avx2", "fma", "f16c"},
        "avx512": {"avx512f", "avx512bw", "avx512dq", "avx512vl"},
    }
    return [isa for isa, need in needs.items() if need <= flags]


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
def test_every_instruction_set(isa):
    """The instruction set is chosen once a process, so each runs the samples in a process of its own."""
    if isa not in supported_instruction_sets():
        pytest.skip(f"this processor has no {isa}")
    code = (
        "import contract\nfor _, op, sample in contract.cases(cpu=True): contract.check_values(op, sample)\nprint('ok')"
    )
    path = os.pathsep.join(p for p in sys.path if p)
    environment = {**os.environ, "SSLFAST_CPU_ISA": isa, "PYTHONPATH": path}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0 and result.stdout.strip() == "ok", result.stderr[-2000:]
