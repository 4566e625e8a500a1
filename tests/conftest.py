"""Tests marked `cuda` need a real GPU: they skip without one, or fail where SSLFAST_REQUIRE_CUDA=1 demands it."""

import os
from functools import cache

import pytest
import torch

from sslfast import _libraries


@cache
def missing_gpu() -> str | None:
    """Why the CUDA kernels cannot run here, or None."""
    if not torch.cuda.is_available():
        return "torch sees no CUDA GPU"
    status = _libraries.load()["_C_cuda"]
    return None if status == "loaded" else f"the CUDA kernels are {status}"


def pytest_runtest_setup(item):
    if item.get_closest_marker("cuda") is None or (reason := missing_gpu()) is None:
        return
    if os.environ.get("SSLFAST_REQUIRE_CUDA") == "1":
        pytest.fail(f"SSLFAST_REQUIRE_CUDA=1, but {reason}")
    pytest.skip(reason)
