"""The proof that the bench guards the kernels: each is broken on purpose, and a test must fail.

    python tests/simt/mutants.py [kernel …]

puts one bug at a time (a wrong index, a missing barrier, a missing tail guard) into a copy of a kernel's source, builds
the bench with it and runs the tests of that kernel. It prints which test failed and why, and exits with 1 when a mutant
survives.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from simt import bench

FOLDER = bench.ROOT / "build" / "simt_mutants"


@dataclass(frozen=True)
class Mutant:
    """One bug in csrc/ops/cuda/<kernel>_kernel.cu: `before` occurs once there and becomes `after`."""

    kernel: str
    kind: str
    before: str
    after: str

    @property
    def source(self) -> Path:
        return bench.ROOT / "csrc" / "ops" / "cuda" / f"{self.kernel}_kernel.cu"

    def text(self) -> str:
        """The broken source."""
        source = with_headers(self.source, set())
        count = source.count(self.before)
        assert count == 1, f"{self.kernel}: {self.before!r} occurs {count} times; adapt the table of mutants"
        return source.replace(self.before, self.after)


def with_headers(source: Path, included: set[str]) -> str:
    """The source with the headers of its folder in place of their first #include, so that they can be broken too."""

    def header(match: re.Match[str]) -> str:
        if match[1] in included:
            return ""
        included.add(match[1])
        return with_headers(bench.ROOT / match[1], included).replace("#pragma once", "")

    return re.sub(r'#include "(csrc/ops/cuda/\w+\.cuh)"', header, source.read_text())


def without_barrier(kernel: str, context: str) -> Mutant:
    """Takes the barrier out of `context`."""
    return Mutant(kernel, "missing barrier", context, context.replace("__syncthreads();", ";"))


MUTANTS = [
    Mutant("augment_params", "wrong index", "args.index[b]", "args.index[b + 1]"),
    Mutant("augment_params", "wrong index", "args.sizes[2 * b + 1]", "args.sizes[2 * b]"),
    Mutant("augment_params", "missing tail guard", "if (b >= args.count) return;", ""),
    Mutant("augment", "wrong index", "view.front[c * view.pixels + p] = bicubic", "view.front[c * p + p] = bicubic"),
    Mutant("augment", "wrong index", "row[j * args.channels]", "row[(j + 1) * args.channels]"),
    Mutant("augment", "wrong index", "partial[threadIdx.x / 32] = value", "partial[threadIdx.x / 16] = value"),
    Mutant("augment", "wrong index", "out + c * args.stride_channel", "out + (c + 1) * args.stride_channel"),
    without_barrier("augment", "rotation_of(view.params, height, width);\n  __syncthreads();"),
    without_barrier("augment", "partial[threadIdx.x / 32] = value;\n  __syncthreads();"),
    without_barrier("augment", "const int step = horizontal ? 1 : width;\n  __syncthreads();"),
    without_barrier("augment", "height = view.args.height, width = view.args.width;\n  __syncthreads();"),
    without_barrier("augment", "store<T>(view, valid);\n    __syncthreads();"),
    Mutant("augment", "missing tail guard", "b < args.count; b += gridDim.x", "b <= args.count; b += gridDim.x"),
    Mutant(
        "augment",
        "missing tail guard",
        "const bool flip = view.params.hflip != 0.0f, mirror = view.params.vflip != 0.0f;\n"
        "  for (int p = threadIdx.x; p < view.pixels; p += threads) {",
        "const bool flip = view.params.hflip != 0.0f, mirror = view.params.vflip != 0.0f;\n"
        "  for (int p = threadIdx.x; p - static_cast<int>(threadIdx.x) < view.pixels; p += threads) {",
    ),
    Mutant("lab", "wrong index", "store(out + args.plane, green_red);", "store(out + 2 * args.plane, green_red);"),
    Mutant("lab", "wrong index", "load<T, width>(in + 2 * args.plane)", "load<T, width>(in + 3 * args.plane)"),
    Mutant("lab", "wrong index", "static_cast<T*>(args.images) + 3 * b", "static_cast<T*>(args.images) + b"),
    without_barrier("lab", "fill_light<T>(table);\n  __syncthreads();"),
    Mutant(
        "lab",
        "missing tail guard",
        "if (first >= args.plane) return;\n"
        "  for (int64_t b = blockIdx.y; b < args.count; b += gridDim.y) {\n    const T* in",
        "for (int64_t b = blockIdx.y; b < args.count; b += gridDim.y) {\n    const T* in",
    ),
    Mutant(
        "lab",
        "missing tail guard",
        "b < args.count; b += gridDim.y) {\n    const float* in",
        "b - blockIdx.y < args.count; b += gridDim.y) {\n    const float* in",
    ),
    Mutant("lab", "missing tail guard", "args.plane % 4 == 0 && aligned", "aligned"),
    Mutant("lab_quantize", "wrong index", "pixel[2 * plane]", "pixel[3 * plane]"),
    Mutant("lab_quantize", "wrong index", "means[(3 * b + c) * cells + cell]", "means[(b + c) * cells + cell]"),
    Mutant("lab_quantize", "wrong index", "args.color[b * cells + k]", "args.color[b * cells + k + 1]"),
    Mutant("lab_quantize", "wrong index", "partial[threadIdx.x / 32] = range", "partial[threadIdx.x / 64] = range"),
    without_barrier("lab_quantize", "fill_light<T>(table);\n  __syncthreads();"),
    without_barrier("lab_quantize", "partial[threadIdx.x / 32] = range;\n  __syncthreads();"),
    Mutant("lab_quantize", "missing tail guard", "if (cell >= cells) return;", ""),
    Mutant("lab_quantize", "missing tail guard", "p < pixels; p += 32", "p < pixels + 1; p += 32"),
    Mutant("lab_quantize", "missing tail guard", "k < n; k += threads", "k < n + 1; k += threads"),
    Mutant("lab_quantize", "missing tail guard", "k < cells; k += threads", "k <= cells; k += threads"),
    Mutant("nt_xent", "wrong index", "stage.rows[k][y + square * a]", "stage.rows[k][y + square * a + 1]"),
    Mutant("nt_xent", "wrong index", "[x + square * b] = weight;", "[x + square * b + 2] = weight;"),
    Mutant("nt_xent", "wrong index", "gradient[row * depth + position]", "gradient[row * depth + position + 1]"),
    without_barrier("nt_xent", "__syncthreads();  // the stage is still read from the last step"),
    without_barrier("nt_xent", "    __syncthreads();\n#pragma unroll\n    for (int k = 0; k < depth_step<T>; ++k) {"),
    without_barrier("nt_xent", "    __syncthreads();\n    const int valid"),
    Mutant("nt_xent", "missing tail guard", "inside && row_begin + i < rows.count", "inside"),
    Mutant("nt_xent", "missing tail guard", "inside && column_begin + i < columns.count", "inside"),
    Mutant("nt_xent", "missing tail guard", "if (x == 0 && row < args.rows) {", "if (x == 0) {"),
    Mutant("nt_xent", "missing tail guard", "if (row >= rows.count || position >= depth)", "if (position >= depth)"),
    Mutant("nt_xent_forward", "wrong index", "+ k + lane / 8 % 2 * 8);", "+ k + lane / 16 * 8);"),
    Mutant("nt_xent_forward", "wrong index", "a + (16 * m + lane % 16)", "a + (16 * m + lane % 8)"),
    Mutant("nt_xent_forward", "wrong index", "threadIdx.x / units;", "threadIdx.x / (units + 1);"),
    Mutant(
        "nt_xent_forward", "wrong index", "const int pair = warp % 2 * (part / 2)", "const int pair = warp / 2 * part"
    ),
    Mutant("nt_xent_forward", "wrong index", "parts.sum[first + row] =", "parts.sum[first + row + 1] ="),
    Mutant("nt_xent_forward", "missing wait", "copy_async_wait<0>();", "copy_async_wait<1>();"),
    without_barrier("nt_xent_forward", "__syncthreads();  // this stage has arrived"),
    without_barrier("nt_xent_forward", "__syncthreads();  // the sums of the lower warps"),
    without_barrier("nt_xent_forward", "__syncthreads();  // the totals of the odd warps"),
    Mutant("nt_xent_forward", "missing tail guard", "if (row < count && k < depth)", "if (row < count)"),
    Mutant("nt_xent_forward", "missing tail guard", "if (row < count && k < depth)", "if (k < depth)"),
    Mutant("nt_xent_forward", "missing tail guard", "if (entry >= entries) return;", ""),
    Mutant("nt_xent_forward", "missing tail guard", "if (row >= rows) continue;", ""),
    Mutant("nt_xent_forward", "missing tail guard", "if (column_begin + 8 * n + 2 * t + j < columns)", ""),
    Mutant("nt_xent_forward", "missing tail guard", "if (row >= rows) return;", ""),
    Mutant("nt_xent_backward", "wrong index", "stride + 8 * n + lane / 16 * 8);", "stride + 8 * n);"),
    Mutant("nt_xent_backward", "wrong index", "+ 8 * n + lane / 16 * 8;", "+ 8 * n + lane / 8 % 2 * 8;"),
    Mutant("nt_xent_backward", "wrong index", "2 * slab + i / 2][i % 2 * 2]", "2 * slab + i % 2][i / 2 * 2]"),
    Mutant("nt_xent_backward", "wrong index", "(slice + 1 + step) % chunks", "(slice + step) % chunks"),
    Mutant("nt_xent_backward", "wrong index", "weights.row.shift[row];", "weights.row.shift[row_begin];"),
    Mutant("nt_xent_backward", "wrong index", "sum += shares[s * share +", "sum += shares["),
    Mutant(
        "nt_xent_backward",
        "missing wait",
        "copy_async_wait<0>();\n      __syncthreads();  // the buffers",
        "copy_async_wait<1>();\n      __syncthreads();  // the buffers",
    ),
    without_barrier("nt_xent_backward", "__syncthreads();\n  if (threadIdx.x > 0) return;"),
    without_barrier("nt_xent_backward", "__syncthreads();  // nobody reads the buffers any more"),
    without_barrier("nt_xent_backward", "__syncthreads();  // the buffers have arrived"),
    without_barrier(
        "nt_xent_backward",
        "__syncthreads();  // this stage has arrived, and nobody reads the other one any more\n    if (step",
    ),
    Mutant("nt_xent_backward", "missing tail guard", "if (row >= padded) return;", ""),
    Mutant("nt_xent_backward", "missing tail guard", "row < count ? grad[row] * *scale : 0.0f", "grad[row] * *scale"),
    Mutant("nt_xent_backward", "missing tail guard", "e < excluded.count && column < columns", "e < excluded.count"),
    Mutant("patch_grid_params", "wrong index", "entry - b * args.count", "entry"),
    Mutant("patch_grid_params", "missing tail guard", "if (entry >= args.images * args.count) return;", ""),
    Mutant("patch_grid", "wrong index", "const int x = patch.left + u;", "const int x = patch.left + u + 1;"),
    Mutant("patch_grid", "wrong index", "__funnelshift_r(w[1], w[2]", "__funnelshift_r(w[1], w[3]"),
    Mutant("patch_grid", "wrong index", "w < warp ? warp_hits[w] : 0", "w <= warp ? warp_hits[w] : 0"),
    without_barrier("patch_grid", "__syncthreads();  // the hits of all warps"),
    without_barrier("patch_grid", "__syncthreads();  // the list is complete"),
    Mutant("patch_grid", "missing tail guard", "if (i >= grid.images * grid.count) return;", ""),
    Mutant("patch_grid", "missing tail guard", "if (first - shift + 20 > end)", "if (false)"),
    Mutant("patch_grid", "missing tail guard", "if (k < grid.count) {", "{"),
    Mutant("patch_grid", "missing tail guard", "if (pixel >= plane_pixels) return;", ""),
]


def test_of(mutant: Mutant) -> tuple[str, str] | None:
    """The first test that fails with `mutant` built in, and its error; None when it survives."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    broken = FOLDER / mutant.source.name
    broken.write_text(mutant.text())
    bench.build(FOLDER, {mutant.source: broken})
    environment = {**os.environ, "SSLFAST_SIMT_BUILD": str(FOLDER), "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        str(bench.HERE / "test_kernels.py"),
        "-k",
        f"test_kernel and {mutant.kernel}",
    ]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=bench.ROOT)
    assert result.returncode in (0, 1), result.stdout + result.stderr
    failed = re.search(r"FAILED \S*::(\S+)", result.stdout)
    if failed is None:
        return None
    errors = re.findall(r"^E\s+(?:RuntimeError: simt: )?(.*\S)", result.stdout, re.MULTILINE)
    return failed.group(1), errors[0] if errors else ""


def main() -> None:
    chosen = sys.argv[1:]
    survived = 0
    for mutant in MUTANTS:
        if chosen and mutant.kernel not in chosen:
            continue
        killer = test_of(mutant)
        survived += killer is None
        print(f"{mutant.kernel} | {mutant.kind} | {' '.join(mutant.before.split())}")
        print(f"    {'SURVIVED' if killer is None else f'{killer[0]}: {killer[1]}'}", flush=True)
    sys.exit(1 if survived else 0)


if __name__ == "__main__":
    main()
