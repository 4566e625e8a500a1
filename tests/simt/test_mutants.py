"""The table of mutants fits the kernels as they are; `python tests/simt/mutants.py` builds and runs them."""

import pytest
from simt import bench
from simt.mutants import MUTANTS, with_headers

pytestmark = pytest.mark.simt


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.kernel}-{mutant.kind}-{mutant.before[:30]}")
def test_mutant_changes_its_kernel(mutant):
    assert mutant.text() != with_headers(mutant.source, set())


def test_every_kernel_has_mutants():
    kernels = {path.name.removesuffix("_kernel.cu") for path in bench.kernel_sources() if path.suffix == ".cu"}
    kinds = {(mutant.kernel, mutant.kind) for mutant in MUTANTS}
    for kernel in kernels:
        has_barriers = "__syncthreads()" in (bench.ROOT / "csrc" / "ops" / "cuda" / f"{kernel}_kernel.cu").read_text()
        wanted = ["wrong index", "missing tail guard", *(["missing barrier"] if has_barriers else [])]
        assert all((kernel, kind) in kinds for kind in wanted), kernel
