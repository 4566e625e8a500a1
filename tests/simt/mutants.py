"""The proof that the bench guards the kernels: each is broken on purpose, and a test must fail.

    python tests/simt/mutants.py [kernel …] [hopper]

puts one bug at a time (a wrong index, a missing barrier, a missing tail guard) into a copy of a kernel's source, builds
the bench with it and runs the tests of that kernel. It prints which test failed and why, and exits with 1 when a mutant
survives. `hopper` keeps to the bugs in Hopper kernels.
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


def with_headers(source: Path) -> str:
    """A kernel's source with its own headers (`csrc/ops/cuda/*.cuh`) in place of their first inclusion."""
    seen: set[str] = set()

    def insert(match: re.Match[str]) -> str:
        if match[1] in seen:
            return ""
        seen.add(match[1])
        return inlined((bench.ROOT / match[1]).read_text().replace("#pragma once\n", ""))

    def inlined(text: str) -> str:
        return re.sub(r'^#include "(csrc/ops/cuda/\w+\.cuh)"$', insert, text, flags=re.MULTILINE)

    return inlined(source.read_text())


@dataclass(frozen=True)
class Mutant:
    """One bug in csrc/ops/cuda/<kernel>_kernel.cu or its headers: `before` occurs once and becomes `after`.

    The samples of the ops whose names begin with `op`, or else with the kernel's, are to find it; on the bench as an
    sm_90 chip where it says `hopper`.
    """

    kernel: str
    kind: str
    before: str
    after: str
    op: str = ""
    hopper: bool = False

    @property
    def source(self) -> Path:
        return bench.ROOT / "csrc" / "ops" / "cuda" / f"{self.kernel}_kernel.cu"

    def text(self) -> str:
        """The broken source."""
        source = with_headers(self.source)
        count = source.count(self.before)
        assert count == 1, f"{self.kernel}: {self.before!r} occurs {count} times; adapt the table of mutants"
        return source.replace(self.before, self.after)


def without_barrier(kernel: str, context: str) -> Mutant:
    """Takes the barrier out of `context`."""
    return Mutant(kernel, "missing barrier", context, context.replace("__syncthreads();", ";"))


MUTANTS = [
    Mutant("augment_params", "wrong index", "args.index[b]", "args.index[b + 1]"),
    Mutant("augment_params", "wrong index", "args.sizes[2 * b + 1]", "args.sizes[2 * b]"),
    Mutant("augment_params", "missing tail guard", "if (b >= args.count) return;", ""),
    Mutant("augment", "wrong index", "tile.middle) + unit / 4 * item", "tile.middle) + item"),
    Mutant(
        "augment", "wrong index", "of_bytes(row.words[i / 4], 0x7650 + i % 4)", "of_bytes(row.words[i / 4], 0x7650)"
    ),
    Mutant("augment", "wrong index", "dot_pair<true>(pair, high,", "dot_pair<true>(pair, low,"),
    Mutant(
        "augment",
        "wrong index",
        "const uint32_t low = next(k), high = next(k + 1);",
        "const uint32_t high = next(k), low = next(k + 1);",
    ),
    Mutant("augment", "wrong index", "(span.begin - column) * channels", "(span.begin - column + 1) * channels"),
    Mutant("augment", "wrong index", "partial[threadIdx.x / 32] = value", "partial[threadIdx.x / 16] = value"),
    Mutant("augment", "wrong index", "return channel * static_cast<int>(", "return (channel + 1) * static_cast<int>("),
    Mutant("augment", "wrong index", "3 * pixel + 4 * unit", "3 * pixel + 3 * unit"),
    Mutant("augment", "wrong index", "__umulhi(static_cast<unsigned>(n)", "__umulhi(static_cast<unsigned>(n + 1)"),
    Mutant(
        "augment",
        "wrong index",
        "spread<margin>(sums, weights, i + 3, four.w)",
        "spread<margin>(sums, weights, i + 2, four.w)",
    ),
    Mutant("augment", "wrong index", "blur.stage + 2 * pair + y * pitch", "blur.stage + 2 * pair + (y + 1) * pitch"),
    Mutant("augment", "wrong index", "kept ? column.read(y)", "kept ? column.read(y + 1)"),
    Mutant("augment", "wrong index", "const uint16_t*>(work)[y]", "const uint16_t*>(work)[2 * y]"),
    Mutant("augment", "wrong index", "larger(done - blur.radius, 0) + ring.capacity", "done + ring.capacity"),
    Mutant("augment", "wrong index", "end == size ? size : end - blur.radius", "end"),
    Mutant("augment", "wrong index", "y = down ? position : other", "y = down ? other : position"),
    Mutant("augment", "wrong index", "reflect(position + k, size) % ring.capacity", "reflect(position + k, size)"),
    Mutant("augment", "missing tail guard", "if (++slot == ring.capacity) slot = 0;", "++slot;"),
    Mutant("augment", "missing tail guard", "&& position + blur.radius < size;", ";"),
    Mutant("augment", "missing tail guard", "smaller(ring.lines, all - first)", "ring.lines"),
    without_barrier("augment", "__syncthreads();  // the planes are complete, and what leaves the ring is used up"),
    without_barrier("augment", "__syncthreads();  // the ring holds all windows up to the next part"),
    without_barrier("augment", "__syncthreads();  // the row of parameters"),
    without_barrier("augment", "partial[threadIdx.x / 32] = value;\n  __syncthreads();"),
    without_barrier("augment", "__syncthreads();  // the spans of the last tile are used up"),
    without_barrier("augment", "__syncthreads();  // spans are complete, and the rows of the last group are used up"),
    without_barrier("augment", "__syncthreads();  // the group is resized vertically"),
    without_barrier("augment", "__syncthreads();  // the weights are complete, and the stage is used up"),
    without_barrier("augment", "__syncthreads();  // lines are complete"),
    without_barrier("augment", "__syncthreads();  // and their margins"),
    without_barrier("augment", "__syncthreads();  // the planes are complete, and the stage is used up"),
    without_barrier("augment", "__syncthreads();  // columns are complete"),
    without_barrier("augment", "__syncthreads();  // columns have their margins"),
    Mutant("augment", "wrong index", "return ring + s % ring_strips", "return ring + s % 2"),
    Mutant("augment", "wrong index", "+ lane % 16 * strips.row_pitch", "+ lane % 8 * strips.row_pitch"),
    Mutant("augment", "wrong index", "g / 2 * 4 + r / 2 * 2 + g % 2", "g + r / 2 * 8"),
    Mutant("augment", "wrong index", "return tile + 1 < count ? 2 : 3;", "return tile + 1 < count ? 1 : 3;"),
    Mutant("augment", "wrong index", "if (from > 0) sum += weight(to + from);", "sum += weight(to + from);"),
    Mutant(
        "augment", "wrong index", "strips.result + line * strip_rows * width", "strips.result + line * rows * width"
    ),
    without_barrier("augment", "__syncthreads();  // the weights of distances are complete"),
    without_barrier("augment", "__syncthreads();  // the next strip is staged, and the last one copied"),
    without_barrier("augment", "__syncthreads();  // this strip is blurred"),
    Mutant("augment", "missing tail guard", "if (y < view.args.height && x < width) {", "if (x < width) {"),
    Mutant("augment", "missing tail guard", "if (x >= width) return;", ""),
    Mutant(
        "augment", "missing tail guard", "smaller(strip_rows, view.args.height - s * strip_rows)", "int{strip_rows}"
    ),
    Mutant("augment", "missing tail guard", "load(smaller(k + 1, count - 1))", "load(k + 1)"),
    without_barrier("augment", "__syncthreads();  // the planes are complete, and the kept column too"),
    without_barrier("augment", "__syncthreads();  // rows up to y + 1 are read"),
    without_barrier("augment", "__syncthreads();  // the planes are complete, noise may come"),
    Mutant("augment", "missing tail guard", "last + 16 <= source.end", "last <= source.end"),
    Mutant("augment", "missing tail guard", "if (in + i < source.end) bytes", "bytes"),
    Mutant("augment", "missing tail guard", "item < rows * units", "item <= rows * units"),
    Mutant("augment", "missing tail guard", "smaller(first + i, rows - 1) * pitch", "(first + i) * pitch"),
    Mutant("augment", "missing tail guard", "if (i >= rows) break;", ""),
    Mutant("augment", "missing tail guard", "if (x + o < view.args.width)\n", "\n"),
    Mutant("augment", "missing tail guard", "if (y + o >= height) break;", ""),
    Mutant("augment", "missing tail guard", "if (both) store_value", "store_value"),
    Mutant("augment", "missing tail guard", "if (inside) store_value", "store_value"),
    Mutant(
        "augment",
        "missing tail guard",
        "pixel < view.pixels; pixel += blockDim.x)",
        "pixel <= view.pixels; pixel += blockDim.x)",
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
    Mutant("lab_quantize", "wrong index", "args.rest[b * cells + k]", "args.rest[b * cells + k + 1]"),
    Mutant("lab_quantize", "wrong index", "args.ranges + 2 * (3 * b + c)", "args.ranges + 2 * (3 * b + c) + 1"),
    Mutant("lab_quantize", "wrong index", "lab_level(pixel[c * plane])", "lab_level(pixel[c])"),
    Mutant(
        "lab_quantize",
        "wrong index",
        "means[(3 * image + 1) * cells + cell]",
        "means[(image + 1) * cells + cell]",
        "lab_soft",
    ),
    Mutant("lab_quantize", "wrong index", "args.indices[out + k * cells]", "args.indices[out + k]", "lab_soft"),
    Mutant("lab_quantize", "missing tail guard", "if (thread >= args.cells.count * cells) return;", "", "lab_soft"),
    Mutant("lab_quantize", "missing tail guard", "      if (bin < 0) continue;\n", "", "lab_soft"),
    Mutant(
        "lab_quantize",
        "missing tail guard",
        "if (k < args.neighbours) {\n      args.indices",
        "if (true) {\n      args.indices",
        "lab_soft",
    ),
    Mutant("lab_quantize", "wrong index", "partial[threadIdx.x / 32] = range", "partial[threadIdx.x / 64] = range"),
    without_barrier("lab_quantize", "fill_light<T>(table);\n    __syncthreads();"),
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
    Mutant(
        "nt_xent", "missing tail guard", "args.classes != nullptr && row < args.rows ?", "args.classes != nullptr ?"
    ),
    Mutant("nt_xent", "missing tail guard", "if (x == 0 && row < args.rows) {", "if (x == 0) {"),
    Mutant("nt_xent", "missing tail guard", "if (row >= rows.count || position >= depth)", "if (position >= depth)"),
    Mutant("nt_xent_forward", "wrong index", "+ k + lane / 8 % 2 * 8);", "+ k + lane / 16 * 8);"),
    Mutant("nt_xent_forward", "wrong index", "a + (16 * m + lane % 16)", "a + (16 * m + lane % 8)"),
    Mutant("nt_xent_forward", "wrong index", "product == 2 ? pairs.rows.plane", "product == 1 ? pairs.rows.plane"),
    Mutant("nt_xent_forward", "wrong index", "threadIdx.x / units;", "threadIdx.x / (units + 1);"),
    Mutant(
        "nt_xent_forward", "wrong index", "const int pair = warp % 2 * (part / 2)", "const int pair = warp / 2 * part"
    ),
    Mutant("nt_xent_forward", "wrong index", "parts.sum[first + row] =", "parts.sum[first + row + 1] ="),
    *(
        Mutant("nt_xent_forward", kind, before, after, op="nt_xent_classes_forward")
        for kind, before, after in (
            ("wrong index", "if (other != own[m][h])", "if (other == own[m][h])"),
            ("wrong index", "parts.largest_other[first + row] =", "parts.largest_other[first + row + 1] ="),
            ("missing tail guard", "row < rows ? classes.rows[row] : 0;", "classes.rows[row];"),
            ("missing tail guard", "column < columns ? classes.columns[column] : 0;", "classes.columns[column];"),
        )
    ),
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
    *(
        Mutant(f"nt_xent_{kernel}", kind, before, after, hopper=True)
        for kernel, kind, before, after in (
            ("forward", "wrong index", "k % chunk_width / 8 ^ in_tile % 8;", "k % chunk_width / 8;"),
            ("forward", "wrong index", "group % 2 * (chunk_bytes / 2),", "0,"),
            ("forward", "wrong index", "Slot{0, parity ^ 1}", "Slot{0, parity}"),
            ("forward", "missing fence", "      fence_async_proxy();\n", ""),
            ("forward", "missing barrier", "    __syncthreads();\n  }\n\n  // The warp's", "  }\n\n  // The warp's"),
            ("forward", "missing wait", "  mbarrier_wait(ring.rows, 0);\n", ""),
            ("forward", "missing wait", "mbarrier_wait(ring.full[slot.stage], slot.parity);\n", ""),
            ("forward", "missing wait", "mbarrier_wait(ring.empty[slot.stage], slot.parity ^ 1);\n", ""),
            (
                "forward",
                "missing wait",
                "wgmma_wait<1>();\n    ring.release(previous);\n    previous",
                "ring.release(previous);\n    previous",
            ),
            ("forward", "missing tail guard", "row < count && k < depth ? static", "k < depth ? static"),
            ("forward", "missing tail guard", "if (keep[m] == 0xffffffffu) continue;", "continue;"),
            ("forward", "wrong index", "first == 0 ? tiles_before(own + 1) - begin : 0;", "0;"),
            ("forward", "wrong index", "2 * last == task.sectors ?", "false ?"),
            ("forward", "wrong index", "ahead > 0 ? ahead : ahead + task.sectors;", "1;"),
            ("forward", "wrong index", "[64 * p + 2 * lane]", "[64 * p + lane / 2 * 4]"),
            ("forward", "missing tail guard", "turn > 0 ? *target", "turn >= 0 ? *target"),
            ("forward", "missing wait", "        mbarrier_wait(ring.rows_empty, turn % 2 ^ 1);\n", ""),
            ("forward", "missing wait", "    mbarrier_wait(ring.tiles.rows, turn % 2);\n", ""),
            ("forward", "missing wait", "      mbarrier_wait(ring.sums_full[slot.stage], slot.parity);\n", ""),
            (
                "forward",
                "missing wait",
                "      if (mirrored) mbarrier_wait(ring.sums_empty",
                "      if (false) mbarrier_wait(ring.sums_empty",
            ),
            (
                "forward",
                "missing barrier",
                "      __syncwarp();\n      if (lane == 0) mbarrier_arrive(ring.sums_full",
                "      if (lane == 0) mbarrier_arrive(ring.sums_full",
            ),
            (
                "forward",
                "missing barrier",
                "      __syncwarp();\n      if (lane == 0) mbarrier_arrive(ring.sums_empty",
                "      if (lane == 0) mbarrier_arrive(ring.sums_empty",
            ),
            ("backward", "wrong index", "(4 * p + slab) * 2 * atom_bytes", "slab * 2 * atom_bytes"),
            ("backward", "wrong index", "s * Shape::sum_parts * Shape::column", "0 * Shape::column"),
            ("backward", "missing wait", "    wgmma_wait<1>(value);\n", ""),
            ("backward", "missing wait", "    wgmma_wait<0>();\n    ring.release", "    ring.release"),
            ("backward", "missing fence", "    wgmma_fence(left);\n", ""),
            ("backward", "missing release", "    ring.release(slot.stage);\n", ""),
        )
    ),
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
    Mutant("reduce_resolution", "wrong index", "args.factors[plane / args.channels]", "args.factors[plane]"),
    Mutant("reduce_resolution", "wrong index", "sum += sums[left + i];", "sum += sums[left];"),
    Mutant("reduce_resolution", "wrong index", "out[static_cast<int64_t>(top + y)", "out[static_cast<int64_t>(top)"),
    without_barrier("reduce_resolution", "__syncthreads();  // the columns of all blocks"),
    without_barrier("reduce_resolution", "__syncthreads();  // the sums have been read"),
    Mutant(
        "reduce_resolution", "missing tail guard", "args.height - top < factor ? args.height - top : factor", "factor"
    ),
    Mutant(
        "reduce_resolution", "missing tail guard", "args.width - left < factor ? args.width - left : factor", "factor"
    ),
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
        str(bench.HERE / ("test_nt_xent_hopper.py" if mutant.hopper else "test_kernels.py")),
        "-k",
        f"test_sample and {mutant.kernel} or test_against or test_mirrored"
        if mutant.hopper
        else f"test_kernel and {mutant.op or mutant.kernel}",
    ]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=bench.ROOT)
    assert result.returncode in (0, 1), result.stdout + result.stderr
    failed = re.search(r"FAILED \S*::(\S+)", result.stdout)
    if failed is None:
        return None
    errors = re.findall(r"^E\s+(?:RuntimeError: simt: )?(.*\S)", result.stdout, re.MULTILINE)
    return failed.group(1), errors[0] if errors else ""


def main() -> None:
    chosen = [name for name in sys.argv[1:] if name != "hopper"]
    survived = 0
    for mutant in MUTANTS:
        if (chosen and mutant.kernel not in chosen) or ("hopper" in sys.argv and not mutant.hopper):
            continue
        killer = test_of(mutant)
        survived += killer is None
        print(f"{mutant.kernel} | {mutant.kind} | {' '.join(mutant.before.split())}")
        print(f"    {'SURVIVED' if killer is None else f'{killer[0]}: {killer[1]}'}", flush=True)
    sys.exit(1 if survived else 0)


if __name__ == "__main__":
    main()
