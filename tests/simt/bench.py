"""The SIMT bench: builds CUDA kernels with the host compiler and runs them on CPU tensors, watching their memory.

`torch.ops.sslfast_simt.<op>` is the op with its CUDA kernel. The grid runs block by block, the threads of a block as
fibers; every load and store of the kernel is checked (see runtime/). An error is a RuntimeError that names kernel,
block and thread.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from shlex import quote
from typing import Any

import torch
from torch import Tensor

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# Seed 0 runs blocks and threads in order, 1 in reverse, others in random order.
SEEDS = (0, 1, 2)

TORCH = Path(torch.__file__).parent
INCLUDES = f"-I{quote(str(HERE / 'include'))} -I{quote(str(ROOT))} -isystem {quote(str(TORCH / 'include'))}"
PLAIN = f"-std=c++20 -fPIC -fvisibility=hidden -g1 -Wall -Wextra -Wno-unknown-pragmas {INCLUDES}"
# The compiler reports every load and store to the bench, in place of the sanitizer whose flag this is. -O1 keeps the
# accesses close to the source; no contraction, so that a product and a sum round as written.
WATCHED = (
    "-O1 -ffp-contract=off -fsanitize=thread,bounds-strict,alignment "
    "-DSSLFAST_CUDA_LIBRARY -DSSLFAST_SIMT -DTORCH_TARGET_VERSION=0x020b000000000000"
)
TORCH_LIBRARIES = quote(str(TORCH / "lib"))
LIBRARY_FLAGS = f"-shared -L{TORCH_LIBRARIES} -Wl,-rpath,{TORCH_LIBRARIES} -Wl,-rpath,'$$ORIGIN'"

NINJA = """
rule compile
  command = g++ $flags -MMD -MF $out.d -x c++ -c $in -o $out
  depfile = $out.d
  deps = gcc
rule link
  command = g++ $in -o $out $flags
"""


def kernel_sources() -> list[Path]:
    """The package's ops and their CUDA kernels: what `_C_cuda` is made of."""
    return sorted(ROOT.glob("csrc/ops/*.cpp")) + sorted(ROOT.glob("csrc/ops/cuda/*_kernel.cu"))


def example_sources() -> list[Path]:
    """Small kernels that try the bench itself."""
    return sorted(HERE.glob("kernels/*.cu"))


def build(folder: Path | None = None, replace: Mapping[Path, Path] | None = None) -> Path:
    """Builds what has changed and returns the libraries' folder; `replace` puts other files in place of sources."""
    ninja = shutil.which("ninja", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    assert ninja is not None, "the SIMT bench needs ninja; install the package with its extra 'test'"
    folder = folder or ROOT / "build" / "simt"
    folder.mkdir(parents=True, exist_ok=True)
    lines = [NINJA]

    def library(name: str, sources: list[Path], flags: str, link: str, after: str = "") -> None:
        objects = []
        for source in sources:
            objects.append(f"{name}/{source.name}.o")
            path = str((replace or {}).get(source, source)).replace(" ", "$ ")
            lines.append(f"build {objects[-1]}: compile {path}\n  flags = {flags}")
        lines.append(f"build {name}.so: link {' '.join(objects)} {after}\n  flags = {LIBRARY_FLAGS} {link}")

    library("libsimt", sorted(HERE.glob("runtime/*.cpp")), f"{PLAIN} -O2", "-lc10 -ldl")
    link = "-ltorch_cpu -Wl,--wrap=memcpy -Wl,--wrap=memset"
    library("kernels", kernel_sources(), f"{PLAIN} {WATCHED}", link, "libsimt.so")
    library("examples", example_sources(), f"{PLAIN} {WATCHED}", link, "libsimt.so")
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (folder / "build.ninja").write_text("\n".join(lines) + "\n")
        result = subprocess.run([ninja, "-C", str(folder)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


@cache
def load() -> ctypes.CDLL:
    """Builds and loads the bench once a process, and registers `torch.ops.sslfast_simt`.

    A folder named by SSLFAST_SIMT_BUILD is loaded as it is: it holds a build with other sources.
    """
    given = os.environ.get("SSLFAST_SIMT_BUILD")
    folder = Path(given) if given else build()
    runtime = ctypes.CDLL(str(folder / "libsimt.so"), mode=ctypes.RTLD_GLOBAL)
    runtime.simt_set_seed.argtypes = [ctypes.c_uint64]
    runtime.simt_guard.argtypes = [ctypes.c_bool]
    runtime.simt_hopper.argtypes = [ctypes.c_int]
    runtime.simt_shared_limit.argtypes = [ctypes.c_int]
    runtime.simt_warpgroup_products.restype = ctypes.c_uint64
    for name in ("kernels", "examples"):
        torch.ops.load_library(folder / f"{name}.so")
    return runtime


@contextmanager
def guarded(seed: int = 0) -> Iterator[None]:
    """Tensors made inside lie in memory that the bench watches; kernels run in the order of `seed`."""
    runtime = load()
    runtime.simt_set_seed(seed)
    runtime.simt_guard(True)
    try:
        yield
    finally:
        runtime.simt_guard(False)


@contextmanager
def hopper(multiprocessors: int = 4) -> Iterator[None]:
    """Inside, the bench is an sm_90 chip, whose kernels may use what csrc/stable/hopper.h offers."""
    runtime = load()
    runtime.simt_hopper(multiprocessors)
    try:
        yield
    finally:
        runtime.simt_hopper(0)


@contextmanager
def shared_memory(kibibytes: int) -> Iterator[None]:
    """Inside, a block of the bench has at most so much shared memory: 48, 64 (sm_75), 99 (sm_86), 163 (sm_80), 227."""
    runtime = load()
    runtime.simt_shared_limit(kibibytes * 1024)
    try:
        yield
    finally:
        runtime.simt_shared_limit(0)


def changed(before: Tensor, after: Tensor) -> bool:
    """Do two tensors differ in any byte?"""
    return not torch.equal(
        before.contiguous().view(-1).view(torch.uint8), after.contiguous().view(-1).view(torch.uint8)
    )


def copy_of(value: Tensor, shift: int) -> Tensor:
    """A contiguous copy that begins at element `shift` of its storage."""
    if shift == 0:
        return value.clone()
    storage = value.new_empty(shift + value.numel())
    storage[:shift] = 0
    return storage[shift:].view(value.shape).copy_(value)


def call(name: str, *args: Any, seed: int = 0, shift: int = 0) -> tuple[Tensor, ...]:
    """Runs `torch.ops.sslfast_simt.<name>` on guarded copies of the tensors among `args`, which it must not change.

    Those of contiguous tensors begin at element `shift` of their storage.
    """
    runtime = load()
    op = getattr(torch.ops.sslfast_simt, name).default
    written = [argument.alias_info is not None and argument.alias_info.is_write for argument in op._schema.arguments]
    with guarded(seed):
        copies = [
            copy_of(value, shift if value.is_contiguous() else 0) if isinstance(value, Tensor) else value
            for value in args
        ]
        runtime.simt_define_all()
        results = op(*copies)
    for value, copy, may_change in zip(args, copies, written, strict=False):
        if isinstance(value, Tensor) and not may_change:
            assert not changed(value, copy), f"{name} has changed an input"
    return tuple(result.clone() for result in (results if isinstance(results, tuple | list) else (results,)))
