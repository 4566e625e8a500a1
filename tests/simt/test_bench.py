"""What the bench offers to kernels: right kernels compute the right thing in every order of their threads."""

import pytest
import torch
from simt import bench

pytestmark = pytest.mark.simt

SEEDS = [0, 1, 2, 3]


def run(name, x, sizes, dtype=torch.float32, seed=0):
    return bench.call("example", name, x, list(sizes), dtype, seed=seed)[0]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("count", [1, 255, 256, 700])
def test_block_sum(count, seed):
    x = torch.randint(-9, 9, (count,)).float()
    blocks = -(-count // 256)
    padded = torch.cat([x, torch.zeros(blocks * 256 - count)])
    assert torch.equal(run("block_sum", x, [blocks], seed=seed), padded.view(blocks, 256).sum(1))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("shape", [(1, 1), (32, 32), (33, 65), (100, 7)])
def test_transpose(shape, seed):
    x = torch.rand(shape)
    assert torch.equal(run("transpose", x, [shape[1], shape[0]], seed=seed), x.T)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [5, 16, 35])
def test_dynamic_shared_memory(size, seed):
    x = torch.rand(size, size)
    torch.testing.assert_close(run("square", x, [size, size], seed=seed), x @ x)


@pytest.mark.parametrize("seed", SEEDS)
def test_atomics(seed):
    x = torch.randint(0, 256, (1000,), dtype=torch.uint8)
    assert torch.equal(run("histogram", x, [16], torch.int32, seed), torch.bincount(x.int() % 16, minlength=16).int())


@pytest.mark.parametrize("count", [1, 4, 131, 512])
def test_vector_loads_and_stores(count):
    x = torch.rand(count)
    assert torch.equal(run("vectorised", x, [count]), 2 * x)


def signed(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def bits(flags) -> int:
    return signed(sum(1 << lane for lane, flag in enumerate(flags) if flag))


@pytest.mark.parametrize("seed", SEEDS)
def test_warp_collectives(seed):
    """Against the tables of the CUDA programming guide, written out lane by lane."""
    x = torch.randint(0, 40, (32,), dtype=torch.int32)
    v = x.tolist()
    lanes = range(32)
    xor = 0
    for value in v:
        xor ^= value
    expected = [
        [v[5]] * 32,
        [v[lane // 8 * 8 + 3] for lane in lanes],
        [v[lane - 2] if lane >= 2 else v[lane] for lane in lanes],
        [v[lane + 3] if lane % 16 + 3 < 16 else v[lane] for lane in lanes],
        [v[lane ^ 9] for lane in lanes],
        [bits(value % 3 == 0 for value in v)] * 32,
        [1] * 32,
        [int(len(set(v)) == 1)] * 32,
        [sum(v)] * 32,
        [min(v)] * 32,
        [max(v)] * 32,
        [xor] * 32,
        [bits(other % 5 == value % 5 for other in v) for value in v],
        [-1 if len(set(v)) == 1 else 0] * 32,
        [sum(value % 2 == 0 for value in v)] * 32,
        [0] * 32,
        [1] * 32,
        [max(v[:16])] * 16 + [v[31]] * 16,
    ]
    assert run("collectives", x, [len(expected), 32], torch.int32, seed).tolist() == expected


def test_warp_collectives_on_equal_values():
    result = run("collectives", torch.full((32,), 7, dtype=torch.int32), [18, 32], torch.int32)
    assert result[7].tolist() == [1] * 32 and result[13].tolist() == [-1] * 32


def test_integer_intrinsics():
    values = [0, 1, -1, 2, 255, 256, -(2**31), 2**31 - 1, 0x12345678, 3, 5, -6]
    result = run("integer_intrinsics", torch.tensor(values, dtype=torch.int32), [len(values), 9], torch.int32)
    for x, row in zip(values, result.tolist(), strict=True):
        u = x & 0xFFFFFFFF
        packed = [(0x44332211 << 32 | u) >> 8 * k & 0xFF for k in (1, 3, 5, 7)]
        assert row[:6] == [
            u.bit_count(),
            32 - u.bit_length(),
            0 if u == 0 else (u & -u).bit_length(),
            signed(int(f"{u:032b}"[::-1], 2)),
            signed(u * 0x9E3779B9 >> 32),
            signed(sum(byte << 8 * k for k, byte in enumerate(packed))),
        ], x
        halved = torch.tensor(x).float() * 0.5
        assert row[6] == min(int(halved.double().round().item()), 2**31 - 1)
        assert row[7:] == [x, min(max(x, -7), 7)]


def test_half_types():
    """Conversions round to nearest even, through subnormals, infinities and NaN, as torch's do."""
    x = torch.cat([torch.randn(200) * 10.0 ** torch.randint(-8, 5, (200,)), torch.tensor([0.0, -0.0, 65520.0, 1e30])])
    x = torch.cat([x, torch.tensor([float("inf"), float("nan"), 1 + 2**-11, 1 + 3 * 2**-11, 2**-24, 1 + 2**-8])])
    result = run("round_trip", x, [len(x), 4])
    half, brain = x.half(), x.bfloat16()
    second = (half.float() + 2.0).half().float()
    fused = (brain.double() * brain.double() + brain.double()).float().bfloat16().float()
    expected = torch.stack([half.float(), brain.float(), second, fused], 1)
    torch.testing.assert_close(result, expected, rtol=0, atol=0, equal_nan=True)


def test_seeds_are_orders():
    """0 in order, 1 in reverse, others shuffled; the same seed gives the same order again."""
    x = torch.zeros(64)
    orders = [run("order", x, [64], torch.int32, seed).tolist() for seed in (0, 1, 2, 3, 2)]
    assert orders[0] == list(range(64))
    assert orders[1] == list(range(64))[::-1]
    assert sorted(orders[2]) == orders[0] and orders[2] not in orders[:2]
    assert orders[3] != orders[2] and orders[4] == orders[2]


def test_limits_of_a_launch():
    x = torch.arange(256).float()
    with pytest.raises(RuntimeError, match="a block needs 204800 bytes of shared memory, of which this GPU has 101376"):
        run("too_much_shared", x, [256])
    with bench.shared_memory(99):  # forgets what has been granted
        with pytest.raises(
            RuntimeError, match=r"65536 bytes .* beside 0 .* are more than cudaFuncSetAttribute has gran"
        ):
            run("shared_not_asked_for", x, [256])
        with pytest.raises(RuntimeError, match=r"49152 bytes .* beside 1024 .* are more than cudaFuncSetAttribute"):
            run("variables_not_asked_for", x, [256])
    assert torch.equal(run("shared_asked_for_by_another", x, [256]), 2 * x)  # a smaller launch, but it grants all
    for kibibytes in (48, 99, 163, 227):
        with bench.shared_memory(kibibytes):
            with pytest.raises(RuntimeError, match=f"at most {kibibytes << 10} bytes .* beside 1024 of variables"):
                run("all_shared", x, [256])
            # The errors before are not taken for this launch's.
            assert torch.equal(run("all_but_variables", x, [256]), 2 * x)
    with pytest.raises(RuntimeError, match="a block has 1 to 1024 threads, asked for 2048"):
        run("too_many_threads", x, [2048], torch.int32)


def test_guarded_tensors_are_poisoned():
    """What nobody writes reads as NaN in every floating type."""
    with bench.guarded():
        for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
            assert torch.empty(7, dtype=dtype).isnan().all()
        assert torch.equal(torch.arange(5).clone(), torch.arange(5))
