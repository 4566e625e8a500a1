"""What can be read off a CUDA kernel without a GPU: compiles each for sm_80 and sm_90a and reads the assembler's report
and the machine code.

`python tests/static/ptxas.py` writes benchmarks/results/ptxas.json, one row a kernel and architecture.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from shlex import quote

import torch

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "benchmarks" / "results" / "ptxas.json"
ARCHITECTURES = ("sm_80", "sm_90a")
REGISTERS = 1 << 16  # of a multiprocessor
WARP_GROUP = 128  # threads
FLAGS = [
    *("-std=c++17", "-O3", "--expt-relaxed-constexpr", "-lineinfo", "-fatbin", "-Xptxas", "-v"),
    *(f"-gencode arch=compute_{arch[3:]},code={arch}" for arch in ARCHITECTURES),
    *("-DSSLFAST_CUDA_LIBRARY", "-DSSLFAST_SM90A", "-DTORCH_TARGET_VERSION=0x020b000000000000"),
    *(f"-I{quote(str(ROOT))}", "-isystem", quote(str(Path(torch.__file__).parent / "include"))),
]


@dataclass(frozen=True)
class Claim:
    """What a kernel must keep to, by the name of its `__global__` function in `CLAIMS`.

    Attributes:
        hot: no spills, and no local arrays (which live in slow memory too).
        load_bytes, store_bytes: exactly these widths of global loads and stores, where given; (16, 4) is 16 bytes with
            a tail of 4.
        widest_store: at least one global store of so many bytes.
        most_shared: at most so many bytes of shared memory in variables.
        tensor_cores: at least one tensor-core instruction, and none that waits for the one before.
        warp_groups: one warp group gives registers back, and the others, of as many as a multiprocessor has registers
            for, take no more than that: they would wait for ever.
        architecture: what is claimed holds for this one alone, and elsewhere the kernel is empty.
    """

    hot: bool = False
    load_bytes: tuple[int, ...] | None = None
    store_bytes: tuple[int, ...] | None = None
    widest_store: int = 0
    most_shared: int | None = None
    tensor_cores: bool = False
    warp_groups: bool = False
    architecture: str | None = None


# A kernel joins by one line.
CLAIMS: dict[str, Claim] = {
    "augment_params": Claim(hot=True),
    "augment": Claim(hot=True, widest_store=8, most_shared=1024),  # static_shared in augment_kernel.cu
    "rgb_to_lab_kernel": Claim(hot=True),
    "lab_to_rgb_kernel": Claim(hot=True),
    "lab_means_kernel": Claim(hot=True),
    "lab_classes_kernel": Claim(hot=True),
    "lab_soft_encode_kernel": Claim(hot=True),
    "nt_xent_forward_kernel": Claim(hot=True),
    "nt_xent_backward_kernel": Claim(hot=True),
    "nt_xent_forward_tensor_kernel": Claim(hot=True, tensor_cores=True),
    "nt_xent_backward_tensor_kernel": Claim(hot=True, tensor_cores=True),
    "nt_xent_band_kernel": Claim(hot=True, tensor_cores=True),
    "nt_xent_product_kernel": Claim(hot=True, tensor_cores=True),
    "nt_xent_hopper_forward_kernel": Claim(hot=True, tensor_cores=True, warp_groups=True, architecture="sm_90a"),
    "nt_xent_hopper_mirrored_kernel": Claim(hot=True, tensor_cores=True, warp_groups=True, architecture="sm_90a"),
    "nt_xent_hopper_backward_kernel": Claim(hot=True, tensor_cores=True, warp_groups=True, architecture="sm_90a"),
    "nt_xent_hopper_band_kernel": Claim(hot=True, tensor_cores=True, warp_groups=True, architecture="sm_90a"),
    "nt_xent_hopper_product_kernel": Claim(hot=True, tensor_cores=True, warp_groups=True, architecture="sm_90a"),
    "patch_grid": Claim(hot=True),
    "patch_grid_backward": Claim(hot=True),
    "patch_grid_params": Claim(hot=True),
    "reduce_resolution": Claim(hot=True),
}


@dataclass
class Kernel:
    """One kernel for one architecture; `load_bytes` and the like count instructions by width or name.

    `serialized`: the assembler lets each wgmma wait for the one before. `group_registers`: of a thread, as setmaxnreg
    sets them for a warp group.
    """

    name: str
    architecture: str
    registers: int = 0
    shared_bytes: int = 0
    stack_bytes: int = 0
    spill_store_bytes: int = 0
    spill_load_bytes: int = 0
    load_bytes: dict[int, int] = field(default_factory=dict)
    store_bytes: dict[int, int] = field(default_factory=dict)
    tensor_instructions: dict[str, int] = field(default_factory=dict)
    group_registers: list[int] = field(default_factory=list)
    serialized: bool = False

    @property
    def function(self) -> str:
        """The `__global__` function without namespace and template arguments."""
        return re.split(r"[<(]", self.name, maxsplit=1)[0].rsplit("::", 1)[-1]


def missing_tools() -> str | None:
    """Why nothing can be read on this machine, or None."""
    if shutil.which("nvcc") is None:
        return "nvcc is not on the PATH"
    if cuobjdump() is None:
        return "the triton package, whose cuobjdump reads machine code, is not installed"
    missing = [tool for tool in ("ninja", "c++filt") if find_tool(tool) is None]
    return f"{missing[0]} is not on the PATH" if missing else None


def find_tool(name: str) -> str | None:
    """On the PATH or beside the Python that runs, whose environment need not be active."""
    return shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))


def cuobjdump() -> Path | None:
    spec = importlib.util.find_spec("triton")
    if spec is None or spec.origin is None:
        return None
    tool = Path(spec.origin).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    return tool if tool.exists() else None


def kernel_sources() -> list[Path]:
    return sorted(ROOT.glob("csrc/ops/cuda/*_kernel.cu"))


def compile_kernels(sources: list[Path], folder: Path = ROOT / "build" / "static") -> list[Path]:
    """Fat binaries of `sources` with the assembler's report beside each; only what has changed is compiled."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        "rule compile",
        f"  command = nvcc {' '.join(FLAGS)} -MD -MF $out.d $in -o $out > $out.log 2>&1 || (cat $out.log; exit 1)",
        "  depfile = $out.d",
        "  deps = gcc",
    ]
    outputs = [folder / f"{source.stem}.fatbin" for source in sources]
    paths = [str(source).replace(" ", "$ ") for source in sources]
    lines += [f"build {out.name}: compile {path}" for out, path in zip(outputs, paths, strict=True)]
    (folder / "build.ninja").write_text("\n".join(lines) + "\n")
    result = subprocess.run([str(find_tool("ninja")), "-C", str(folder)], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return outputs


def read_report(text: str) -> dict[tuple[str, str], Kernel]:
    """The report of `ptxas -v`: kernels by mangled name and architecture."""
    kernels: dict[tuple[str, str], Kernel] = {}
    current = described = ""
    serialized = set(re.findall(r"wgmma.mma_async instructions are serialized .* in the function '(\w+)'", text))
    for line in text.splitlines():
        if match := re.search(r"Compiling entry function '(\w+)' for '(\w+)'", line):
            current, architecture = match.groups()
            kernel = kernels[current, architecture] = Kernel(current, architecture)
            kernel.serialized = architecture == "sm_90a" and current in serialized  # only there is wgmma
        elif match := re.search(r"Function properties for (\w+)", line):
            described = match[1]
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            # Functions that were not inlined have properties of their own; their stack is part of the kernel's total.
            if described == current:
                kernel.stack_bytes, kernel.spill_store_bytes, kernel.spill_load_bytes = map(int, match.groups())
        elif match := re.search(r"Used (\d+) registers", line):
            kernel.registers = int(match[1])
            if match := re.search(r"(\d+) bytes smem", line):
                kernel.shared_bytes = int(match[1])
            if match := re.search(r"(\d+) bytes cumulative stack size", line):
                kernel.stack_bytes = max(kernel.stack_bytes, int(match[1]))
    return kernels


def access_width(instruction: str) -> int:
    """Bytes that a load or store such as LDG.E.128.CONSTANT moves a thread."""
    parts = instruction.split(".")
    for bits in ("128", "64"):
        if bits in parts:
            return int(bits) // 8
    return 1 if {"U8", "S8"} & set(parts) else 2 if {"U16", "S16"} & set(parts) else 4


def read_machine_code(text: str, kernels: dict[tuple[str, str], Kernel]) -> None:
    """Adds what `cuobjdump -sass` says about global loads and stores (LDG, LDGSTS, STG), tensor cores (xMMA) and
    setmaxnreg."""
    architecture = name = ""
    counts: dict[tuple[str, str], dict[str, Counter]] = {}
    for line in text.splitlines():
        if match := re.match(r"\s*arch = (\w+)", line):
            architecture = match[1]
        elif match := re.match(r"\s*Function : (\w+)", line):
            name = match[1]
            counts[name, architecture] = {"load": Counter(), "store": Counter(), "tensor": Counter()}
        elif match := re.match(r"\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+ )?([A-Z][\w.]*)", line):
            opcode = match[1].split(".")[0]
            found = counts[name, architecture]
            if opcode in ("LDG", "LDGSTS"):
                found["load"][access_width(match[1])] += 1
            elif opcode == "STG":
                found["store"][access_width(match[1])] += 1
            elif opcode == "USETMAXREG" and (number := re.search(r"USETMAXREG\S* .*?(0x[0-9a-f]+)", line)):
                kernels[name, architecture].group_registers.append(int(number[1], 16))
            elif opcode in ("HMMA", "HGMMA", "IMMA", "IGMMA", "DMMA", "QGMMA"):
                found["tensor"][".".join(match[1].split(".")[:3])] += 1
    for key, kernel in kernels.items():
        kernel.load_bytes = dict(sorted(counts[key]["load"].items()))
        kernel.store_bytes = dict(sorted(counts[key]["store"].items()))
        kernel.tensor_instructions = dict(sorted(counts[key]["tensor"].items()))


def readable(names: list[str]) -> list[str]:
    """Demangled names without the anonymous namespace that carries a hash."""
    text = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True).stdout
    return [re.sub(r"_GLOBAL__N__\w+::|\(anonymous namespace\)::", "", line) for line in text.splitlines()]


def inspect(sources: list[Path], folder: Path = ROOT / "build" / "static") -> list[Kernel]:
    """Every kernel in `sources`, for every architecture."""
    rows = []
    for binary in compile_kernels(sources, folder):
        kernels = read_report(Path(f"{binary}.log").read_text())
        command = [str(cuobjdump()), "-sass", str(binary)]
        read_machine_code(subprocess.run(command, capture_output=True, text=True, check=True).stdout, kernels)
        rows += kernels.values()
    for kernel, name in zip(rows, readable([kernel.name for kernel in rows]), strict=True):
        kernel.name = name
    return sorted(rows, key=lambda kernel: (kernel.name, kernel.architecture))


def broken_claims(kernel: Kernel, claim: Claim) -> list[str]:
    """What `kernel` does not keep of `claim`, each as a sentence."""
    if claim.architecture not in (None, kernel.architecture):
        return []
    found = []
    spilled = kernel.spill_store_bytes + kernel.spill_load_bytes
    if claim.hot and spilled > 0:
        found.append(f"it spills: {kernel.spill_store_bytes} bytes stored, {kernel.spill_load_bytes} loaded")
    if claim.hot and kernel.stack_bytes > 0:
        found.append(f"it keeps {kernel.stack_bytes} bytes in local memory")
    for what, claimed, real in (
        ("loads", claim.load_bytes, kernel.load_bytes),
        ("stores", claim.store_bytes, kernel.store_bytes),
    ):
        if claimed is not None and set(claimed) != set(real):
            found.append(f"its global {what} are {sorted(real)} bytes wide, claimed are {sorted(claimed)}")
    widest = max(kernel.store_bytes, default=0)
    if widest < claim.widest_store:
        found.append(f"its widest global store is {widest} bytes, claimed are {claim.widest_store}")
    if claim.most_shared is not None and kernel.shared_bytes > claim.most_shared:
        found.append(
            f"its variables take {kernel.shared_bytes} bytes of shared memory, claimed are {claim.most_shared}"
        )
    if claim.warp_groups:
        groups = REGISTERS // (kernel.registers * WARP_GROUP)  # of a block; the first gives back
        least, most = min(kernel.group_registers, default=0), max(kernel.group_registers, default=0)
        if len(kernel.group_registers) != 2 or least + (groups - 1) * most > groups * kernel.registers:
            found.append(f"its {groups} warp groups set {kernel.group_registers} of {kernel.registers} registers")
    if kernel.serialized:
        found.append("its wgmma instructions are serialized")
    if claim.tensor_cores and not kernel.tensor_instructions:
        found.append("it has no tensor-core instruction")
    return [f"{kernel.name} for {kernel.architecture}: {sentence}" for sentence in found]


def main() -> None:
    reason = missing_tools()
    if reason is not None:
        raise SystemExit(f"cannot inspect the kernels: {reason}")
    compiler = subprocess.run(["nvcc", "--version"], capture_output=True, text=True, check=True).stdout
    rows = [asdict(kernel) for kernel in inspect(kernel_sources())]
    version = re.search(r"release [\d.]+, (V[\d.]+)", compiler)
    document = {"nvcc": version[1] if version else compiler.strip(), "kernels": rows}
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    TABLE.write_text(json.dumps(document, indent=1) + "\n")
    for row in rows:
        print(
            f"{row['name'].split('(')[0]:60} {row['architecture']:8} {row['registers']:3} registers "
            f"{row['shared_bytes']:6} B shared {row['stack_bytes']:4} B stack "
            f"{row['spill_store_bytes'] + row['spill_load_bytes']:4} B spills  loads {row['load_bytes']} "
            f"stores {row['store_bytes']} {row['tensor_instructions'] or ''}"
        )


if __name__ == "__main__":
    main()
