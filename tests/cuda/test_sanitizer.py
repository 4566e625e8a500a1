"""compute-sanitizer over the small samples: memory, uninitialised reads, races and barriers on the chip."""

import os
import shutil
import subprocess
import sys

import contract
import pytest

pytestmark = pytest.mark.cuda

SCRIPT = """
import sys
import contract
op = contract.load(sys.argv[1])
for sample in op.samples():
    if sample.small:
        contract.call(op, sample, device="cuda")
print("finished")
"""


@pytest.mark.parametrize("tool", ["memcheck", "initcheck", "racecheck", "synccheck"])
@pytest.mark.parametrize("name", contract.CONTRACTS)
def test_sanitizer_is_silent(name, tool):
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        if os.environ.get("SSLFAST_REQUIRE_CUDA") == "1":
            pytest.fail("SSLFAST_REQUIRE_CUDA=1, but compute-sanitizer is not on the PATH")
        pytest.skip("compute-sanitizer is not on the PATH")
    # One allocation a tensor, so that an access between two tensors is seen.
    path = os.pathsep.join(folder for folder in sys.path if folder)
    environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1", "PYTHONPATH": path}
    only_ours = ["--kernel-name", "kernel_substring=sslfast"]  # not torch's own kernels
    command = [sanitizer, "--tool", tool, *only_ours, "--error-exitcode", "9", sys.executable, "-c", SCRIPT, name]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0 and "finished" in result.stdout, result.stdout[-4000:] + result.stderr[-2000:]
