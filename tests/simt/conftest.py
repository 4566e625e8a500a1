"""The bench is built by the first test that needs it, into build/simt; later runs rebuild what has changed."""

import pytest
from simt import bench


@pytest.fixture(scope="session", autouse=True)
def built():
    bench.load()
