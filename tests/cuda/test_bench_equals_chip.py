"""The SIMT bench against the chip: its own example kernels, compiled by nvcc, give what the bench says they give.

Warp collectives, intrinsics, 16-bit types, atomics, shared memory, tensor-core fragments, ldmatrix and cp.async; on
Hopper mbarriers, bulk copies and wgmma. Single instructions also give what the outside tables of simt/layouts.py say.
"""

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from simt import bench, layouts

pytestmark = pytest.mark.cuda

# nvcc compiles the kernels for the CUDA key; the schemas are defined here.
SCHEMAS = """
#include <torch/csrc/stable/library.h>
STABLE_TORCH_LIBRARY_FRAGMENT(sslfast, library) {
  library.def("example(str name, Tensor input, int[] sizes, ScalarType dtype) -> Tensor");
  library.def("example_product(str path, Tensor a, Tensor b) -> Tensor");
  library.def("example_warpgroup(str path, str bug, Tensor a, Tensor b, int columns) -> Tensor");
  library.def("example_fragments(str name, Tensor a, Tensor b, Tensor c) -> Tensor");
  library.def("example_matrices(Tensor rows, int count, bool transposed) -> Tensor");
  library.def("example_words(str name, Tensor words) -> Tensor");
  library.def("example_group(str path, Tensor a, Tensor b, Tensor c, int[] matrices) -> Tensor");
}
"""


def run(*command):
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def build(folder: Path, architecture: str) -> Path:
    """A library with the example kernels for `architecture`, such as "90a"."""
    schemas, library = folder / "schemas.cu", folder / "examples.so"
    schemas.write_text(SCHEMAS)
    torch_folder = Path(torch.__file__).parent
    flags = [
        *("-std=c++17", "-O2", "--expt-relaxed-constexpr", "-Xcompiler", "-fPIC"),
        f"-gencode=arch=compute_{architecture},code=sm_{architecture}",
        *("-DSSLFAST_CUDA_LIBRARY", "-DTORCH_TARGET_VERSION=0x020b000000000000"),
        *(f"-I{bench.ROOT}", "-isystem", torch_folder / "include"),
    ]
    names = ("examples.cu", "tensor_core.cu", "hopper.cu", "fragments.cu")
    sources = [schemas, *(bench.HERE / "kernels" / name for name in names)]
    objects = [folder / f"{source.stem}.o" for source in sources]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda source, out: run("nvcc", *flags, "-c", source, "-o", out), sources, objects))
    run("nvcc", *flags, "-shared", *objects, f"-L{torch_folder / 'lib'}", "-ltorch_cpu", "-o", library)
    return library


@pytest.fixture(scope="module")
def chip(tmp_path_factory):
    """Calls an example on the GPU and brings the result back."""
    if shutil.which("nvcc") is None:
        if os.environ.get("SSLFAST_REQUIRE_CUDA") == "1":
            pytest.fail("SSLFAST_REQUIRE_CUDA=1, but nvcc is not on the PATH")
        pytest.skip("nvcc is not on the PATH")
    major, minor = torch.cuda.get_device_capability()
    torch.ops.load_library(build(tmp_path_factory.mktemp("examples"), f"{major}{minor}{'a' if major >= 9 else ''}"))

    def call(name, *args):
        moved = [value.cuda() if isinstance(value, torch.Tensor) else value for value in args]
        return getattr(torch.ops.sslfast, name)(*moved).cpu()

    return call


NORMAL = torch.randn(1000, generator=torch.Generator().manual_seed(0))
INTEGERS = torch.randint(-(2**31), 2**31 - 1, (60,), generator=torch.Generator().manual_seed(0)).int()
EXACT = {
    "transpose": (NORMAL[:999].view(27, 37), [37, 27], torch.float32),
    "vectorised": (NORMAL, [1000], torch.float32),
    "histogram": ((NORMAL * 20).abs().byte(), [16], torch.int32),
    "collectives": (torch.arange(3, 35, dtype=torch.int32) % 19, [18, 32], torch.int32),
    "integer_intrinsics": (INTEGERS, [60, 9], torch.int32),
    "round_trip": (torch.cat([NORMAL * 100, NORMAL * 1e-7]), [2000, 4], torch.float32),
    "block_sum": ((NORMAL * 10).round(), [4], torch.float32),
}


@pytest.mark.parametrize("name", EXACT)
def test_same_bits(name, chip):
    x, sizes, dtype = EXACT[name]
    assert torch.equal(chip("example", name, x, sizes, dtype), bench.call("example", name, x, sizes, dtype)[0])


def test_products_in_shared_memory(chip):
    x = NORMAL[:900].view(30, 30)
    arguments = ("example", "square", x, [30, 30], torch.float32)
    torch.testing.assert_close(chip(*arguments), bench.call(*arguments)[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("path", ["k16", "k8", "shared"])
def test_tensor_cores(path, dtype, chip):
    """float32 is the TF32 product, whatever the path. The chip rounds its sums towards zero."""
    a, b = NORMAL[:512].view(16, 32).to(dtype), NORMAL[512:768].view(32, 8).to(dtype)
    arguments = ("example_product", path, a, b)
    torch.testing.assert_close(chip(*arguments), bench.call(*arguments)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["f16_k8", "f16_k16", "bf16_k8", "bf16_k16", "tf32_k8"])
def test_fragments_of_a_warp(name, chip):
    arguments, expected = layouts.warp_case(name)
    assert torch.equal(chip(*arguments), expected)


@pytest.mark.parametrize("case", layouts.SUMS)
def test_sums_of_a_warp(case, chip):
    """What was measured on an A100 and on an H100; other chips may add up otherwise."""
    name, c, products, *sums = layouts.SUMS[case]
    of_chips = dict(zip([(8, 0), (9, 0)], sums, strict=True))
    if torch.cuda.get_device_capability() not in of_chips:
        pytest.skip("it is not known how this GPU adds up")
    expected = of_chips[torch.cuda.get_device_capability()]
    assert chip(*layouts.lone_products(name, c, products))[0, 0] == expected


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("transposed", [False, True])
def test_ldmatrix(transposed, count, chip):
    arguments, expected = layouts.matrices_case(transposed, count)
    assert torch.equal(chip(*arguments), expected)


@pytest.mark.parametrize("name", layouts.WORDS)
def test_words(name, chip):
    arguments, expected = layouts.words_case(name)
    result = chip(*arguments)
    if name in ("ex2", "rcp"):  # approximate
        torch.testing.assert_close(result.view(torch.float32), expected.view(torch.float32), rtol=2**-22, atol=0)
    else:
        assert torch.equal(result, expected)


@pytest.fixture
def hopper():
    if torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("wgmma needs a GPU of compute capability 9.0")


@pytest.mark.parametrize("slab", [0, 1, 3])
@pytest.mark.parametrize(("path", "columns", "dtype"), layouts.GROUPS)
@pytest.mark.usefixtures("hopper")
def test_fragments_of_a_group(path, columns, dtype, slab, chip):
    arguments, expected = layouts.group_case(path, columns, dtype, slab)
    assert torch.equal(chip(*arguments), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("path", ["shared", "registers"])
@pytest.mark.usefixtures("hopper")
def test_warpgroups(path, columns, dtype, chip):
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(64, 320, generator=generator).to(dtype)
    b = torch.randn(columns, 320, generator=generator).to(dtype)
    arguments = ("example_warpgroup", path, "none", a, b.T.contiguous() if path == "registers" else b, columns)
    with bench.hopper():
        expected = bench.call(*arguments)[0]
    torch.testing.assert_close(chip(*arguments), expected, rtol=1e-4, atol=1e-4)
