"""What outside sources say of each instruction of csrc/stable/tensor_core.h and hopper.h, as calls and their results.

Layouts of registers and of shared memory are those of CuTe (NVIDIA/cutlass: include/cute/atom/mma_traits_sm80.hpp,
mma_traits_sm90_gmma.hpp, copy_traits_sm75.hpp, swizzle.hpp), evaluated here; instructions on single registers follow
the PTX ISA. Kernels and bench could share a mistake; with these tables they would both have to share it.
"""

import struct

import torch


class Layout:
    """A CuTe layout: `shape` and `stride` of (thread, value) as nested tuples, the first number running fastest."""

    def __init__(self, shape, stride):
        self.modes = [list(zip(self.flat(s), self.flat(d), strict=True)) for s, d in zip(shape, stride, strict=True)]

    @staticmethod
    def flat(tree):
        return [leaf for branch in tree for leaf in Layout.flat(branch)] if isinstance(tree, tuple) else [tree]

    def __call__(self, *place):
        total = 0
        for index, mode in zip(place, self.modes, strict=True):
            for extent, step in mode:
                total += index % extent * step
                index //= extent
            assert index == 0
        return total

    def sizes(self):
        return [torch.tensor([extent for extent, _ in mode]).prod().item() for mode in self.modes]


def registers(matrix, layout):
    """(threads, values) of `matrix`, whose numbers the layout counts column by column."""
    threads, values = layout.sizes()
    columns = matrix.T.reshape(-1)
    return torch.stack([torch.stack([columns[layout(t, v)] for v in range(values)]) for t in range(threads)])


# mma_traits_sm80.hpp: A is (M, K), B is (N, K), C is (M, N).
C_16x8 = Layout(((4, 8), (2, 2)), ((32, 1), (16, 8)))
WARP = {
    "k8": (16, 8, 8, C_16x8, Layout(((4, 8), (2,)), ((16, 1), (8,)))),
    "k16": (
        16,
        8,
        16,
        Layout(((4, 8), (2, 2, 2)), ((32, 1), (16, 8, 128))),
        Layout(((4, 8), (2, 2)), ((16, 1), (8, 64))),
    ),
    "tf32": (16, 8, 8, Layout(((4, 8), (2, 2)), ((16, 1), (8, 64))), Layout(((4, 8), (2,)), ((8, 1), (32,)))),
}
DTYPES = {"f16": torch.float16, "bf16": torch.bfloat16, "tf32": torch.float32}


def numbers(rows, columns, dtype, seed):
    """Small integers: every sum is exact in every order."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-8, 9, (rows, columns), generator=generator).to(dtype)


def warp_case(name):
    """A call of `example_fragments`, and what it must give."""
    dtype = DTYPES[name.split("_")[0]]
    m, n, k, a_layout, b_layout = WARP["tf32" if dtype == torch.float32 else name.split("_")[1]]
    a, b, c = numbers(m, k, dtype, 1), numbers(n, k, dtype, 2), numbers(m, n, torch.float32, 3)
    left, right = (registers(x, layout).view(torch.int32) for x, layout in ((a, a_layout), (b, b_layout)))
    result = c + a.float() @ b.float().T
    return ("example_fragments", name, left, right, registers(c, C_16x8)), registers(result, C_16x8)


def lone_products(name, c, products):
    """c plus a list of products, as the tensor cores add them up: element (0, 0) of one instruction."""
    dtype = DTYPES[name.split("_")[0]]
    m, n, k, a_layout, b_layout = WARP["tf32" if dtype == torch.float32 else name.split("_")[1]]
    a, b, sums = torch.zeros(m, k), torch.zeros(n, k), torch.zeros(m, n)
    for position, (left, right) in products.items():
        a[0, position], b[0, position] = left, right
    sums[0, 0] = c
    left, right = (registers(x.to(dtype), layout).view(torch.int32) for x, layout in ((a, a_layout), (b, b_layout)))
    return "example_fragments", name, left, right, registers(sums, C_16x8)


SMALL = 2.0**-12
# Fasi et al. 2021, Khattak and Mikaitis 2025: c, products by their place, and the sum on an A100 and on an H100.
SUMS = {
    "cut off, not rounded": ("f16_k16", 1.0, {0: (1.5 * SMALL, SMALL)}, 1.0, 1.0),
    "cut off towards zero": ("f16_k16", -1.0, {0: (-1.5 * SMALL, SMALL)}, -1.0, -1.0),
    "cut off before they cancel": ("bf16_k16", 1.0, {0: (-0.75 * SMALL, SMALL)}, 1.0, 1 - 2**-24),
    "one more bit": ("f16_k16", 1.0, {0: (SMALL, SMALL), 7: (SMALL, SMALL)}, 1 + 2**-23, 1 + 2**-23),
    "two more bits": ("f16_k16", 1.0, dict.fromkeys(range(4), (SMALL / 2, SMALL)), 1.0, 1 + 2**-23),
    "sixteen at a time": ("f16_k16", 1.0, {0: (SMALL, SMALL), 15: (SMALL, SMALL)}, 1.0, 1 + 2**-23),
    "four of tf32": ("tf32_k8", 1.0, {0: (SMALL, SMALL), 4: (SMALL, SMALL)}, 1.0, 1 + 2**-23),
    "exact products": ("f16_k8", 0.0, {0: (2047.0, 2047.0)}, 2047.0**2, 2047.0**2),
    "subnormal factors": ("f16_k16", 0.0, {0: (2.0**-24, 2.0**-24)}, 2.0**-48, 2.0**-48),
    "infinite": ("f16_k16", 1.0, {0: (60000.0, float("inf"))}, float("inf"), float("inf")),
}


# copy_traits_sm75.hpp: where bit v of a lane's registers lies among the bits of the rows, as lanes point at them. With
# `transposed`, sixteen bits of every second row.
LDMATRIX = {
    False: lambda count: Layout(((32,), (32, count)), ((32,), (1, 1024))),
    True: lambda count: Layout(((4, 8), (16, 2, count)), ((256, 16), (1, 128, 1024))),
}


def matrices_case(transposed, count):
    halves = torch.arange(256, dtype=torch.int16) * 3 + 1
    layout = LDMATRIX[transposed](count)
    places = [[layout(lane, 16 * half) for half in range(2 * count)] for lane in range(32)]
    expected = halves[torch.tensor(places) // 16].view(torch.int32)
    return ("example_matrices", halves.view(32, 8), count, transposed), expected


# --- instructions on single registers: the PTX ISA --------------------------------------------------------------------


def word(value):
    return struct.unpack("<I", struct.pack("<f", value))[0] if isinstance(value, float) else value & 0xFFFFFFFF


WORDS = {
    # dp2a.s32.u32: two signed 16-bit numbers times the lower or the upper two unsigned bytes, plus a sum that wraps.
    "dp2a.lo": [
        ((0x0002_0003, 0xDDCC_0A05, 100), 3 * 5 + 2 * 10 + 100),
        ((0xFFFF_0001, 0x0000_FF02, 0), 2 - 255),
        ((0x8000_7FFF, 0x0000_01FF, 7), 0x7FFF * 255 - 0x8000 + 7),
        ((0x0000_0001, 0x0000_0001, 0x7FFFFFFF), 0x80000000),
    ],
    "dp2a.hi": [
        ((0x0002_0003, 0x0A05_DDCC, 100), 3 * 5 + 2 * 10 + 100),
        ((0xFFFF_0001, 0xFF02_0000, 0), 2 - 255),
        ((0x8000_8000, 0xFFFF_0000, 0), -2 * 0x8000 * 255),
    ],
    # To ten bits behind the point, to nearest, ties away from zero; the other 13 bits are 0.
    "cvt.rna.tf32": [
        ((0x3F80_1000, 0, 0), 0x3F80_2000),
        ((0xBF80_1000, 0, 0), 0xBF80_2000),
        ((0x3F80_0FFF, 0, 0), 0x3F80_0000),
        ((0x3FFF_F000, 0, 0), 0x4000_0000),
        ((0x7F80_0000, 0, 0), 0x7F80_0000),
    ],
    # The first number in the lower half; to nearest, ties to even.
    "pack f16": [
        ((1.0, -2.0, 0), 0xC000_3C00),
        ((1 + 2.0**-11, 1 + 3 * 2.0**-11, 0), 0x3C02_3C00),
        ((65519.0, 65520.0, 0), 0x7C00_7BFF),
        ((2.0**-25, 3 * 2.0**-25, 0), 0x0002_0000),
    ],
    "pack bf16": [
        ((1.0, -2.0, 0), 0xC000_3F80),
        ((1 + 2.0**-8, 1 + 3 * 2.0**-8, 0), 0x3F82_3F80),
        ((3.5e38 / 1.05, 1.0, 0), 0x3F80_7F7B),
    ],
    "ex2": [((0.0, 0, 0), 1.0), ((-3.0, 0, 0), 0.125), ((-127.0, 0, 0), 0.0), ((0xFF80_0000, 0, 0), 0.0)],
    "rcp": [((4.0, 0, 0), 0.25), ((-0.5, 0, 0), -2.0)],
    # Byte i of the result is byte (nibble i) of the two words, the first one's being 0 to 3; bit 3 repeats its sign.
    "prmt": [
        ((0x33221100, 0x77665544, 0x7610), 0x77661100),
        ((0x33221100, 0x77665544, 0x5140), 0x55114400),
        ((0x00000080, 0x00000000, 0x0008), 0x808080FF),
    ],
    # The lower word of both, shifted to the right by the last five bits of a number.
    "shf.r": [
        ((0x33221100, 0x77665544, 8), 0x44332211),
        ((0x33221100, 0x77665544, 32), 0x33221100),
        ((0x33221100, 0x77665544, 8 * 7), 0x66554433),
    ],
}


def words_case(name):
    def tensor(values):
        return torch.tensor([word(value) for value in values], dtype=torch.int64).to(torch.int32)

    given = torch.stack([tensor(values) for values, _ in WORDS[name]])
    return ("example_words", name, given), tensor(result for _, result in WORDS[name])


# --- warp groups ------------------------------------------------------------------------------------------------------

A_64x16 = Layout(((4, 8, 4), (2, 2, 2)), ((128, 1, 16), (64, 8, 512)))


def sums_of_a_group(columns):
    return Layout(((4, 8, 4), (2, 2, columns // 8)), ((128, 1, 16), (64, 8, 512)))


def swizzled(byte):
    """Swizzle<3, 4, 3> of swizzle.hpp: bits 7 to 9 of an address are added, without carry, to bits 4 to 6."""
    return byte ^ (byte >> 3 & 0x70)


def image_by_rows(matrix, stride):
    """`matrix` (rows, 64) in shared memory: ((8, m), (8, 8)):((64, stride), (1, 8)) in numbers, swizzled."""
    image = torch.full(((len(matrix) - 1) // 8 * stride // 2 + 512,), float("nan"), dtype=matrix.dtype)
    for row in range(len(matrix)):
        for k in range(64):
            image[swizzled(row % 8 * 128 + row // 8 * stride + 2 * k) // 2] = matrix[row, k]
    return image


def image_by_columns(matrix, stride, leading):
    """`matrix` (K, 64 parts) in shared memory: ((8, 8, n), (8, k)):((1, 8, leading), (64, stride)), swizzled."""
    depth, columns = matrix.shape
    last = (depth - 1) // 8 * stride + (columns - 1) // 64 * leading
    image = torch.full((last // 2 + 512,), float("nan"), dtype=matrix.dtype)
    for k in range(depth):
        for n in range(columns):
            image[swizzled(n % 64 * 2 + n // 64 * leading + k % 8 * 128 + k // 8 * stride) // 2] = matrix[k, n]
    return image


GROUPS = [
    (path, columns, dtype)
    for path in ("shared", "transposed", "registers")
    for columns in (64, 128)
    for dtype in (torch.float16, torch.bfloat16)
]


def group_case(path, columns, dtype, slab):
    """The 16 numbers of `slab` of operands with a depth of 64; groups of 8 rows are further apart than they need be."""
    a, b = numbers(64, 64, dtype, 1), numbers(columns, 64, dtype, 2)
    c = numbers(64, columns, torch.float32, 3)
    part = slice(16 * slab, 16 * slab + 16)
    expected = c + a[:, part].float() @ b[:, part].float().T
    a_at, b_at = (32 * slab, 2048, 0), (32 * slab, 1024, 0)
    left, right = image_by_rows(a, 2048), image_by_rows(b, 1024)
    if path != "shared":
        b_at = (2 * slab * 2048, 2048, 17408)
        right = image_by_columns(b.T, 2048, 17408)
    if path == "registers":
        left, a_at = registers(a[:, part], A_64x16).view(torch.int32), (0, 0, 0)
    layout = sums_of_a_group(columns)
    return ("example_group", path, left, right, registers(c, layout), [*a_at, *b_at]), registers(expected, layout)
