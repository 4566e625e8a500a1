"""What tests need that is not everywhere: a real GPU, and real images.

Tests marked `cuda` skip without a GPU, or fail where SSLFAST_REQUIRE_CUDA=1 demands one. Tests on real images skip
without them; SSLFAST_TEST_DATA names the folder that holds `photos/` and `cifar10-jpeg.tar.xz`.
"""

import os
from functools import cache
from pathlib import Path

import pytest
import torch

from sslfast import _libraries

DATA = Path(os.environ.get("SSLFAST_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


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


def real_data(name: str) -> Path:
    if not (DATA / name).exists():
        pytest.skip(f"needs {DATA / name}; name its folder in SSLFAST_TEST_DATA")
    return DATA / name


@pytest.fixture(scope="session")
def photos() -> Path:
    """A folder of a few dozen photographs as JPEG files, without labels."""
    return real_data("photos")


@pytest.fixture(scope="session")
def cifar10_archive() -> Path:
    """CIFAR-10 as JPEG files in class folders, packed."""
    return real_data("cifar10-jpeg.tar.xz")
