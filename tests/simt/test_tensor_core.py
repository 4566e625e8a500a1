"""csrc/stable/tensor_core.h on the bench: matrix products through fragments, ldmatrix and cp.async."""

import pytest
import torch
from simt import bench

pytestmark = pytest.mark.simt


def product(path, a, b, seed=0):
    return bench.call("example_product", path, a, b, seed=seed)[0]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("depth", [16, 48])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("path", ["k16", "k8", "shared"])
def test_half_products(path, dtype, depth, seed):
    """Against a plain product of the rounded operands; random numbers tell every element's place apart."""
    generator = torch.Generator().manual_seed(depth)
    a = torch.randn(16, depth, generator=generator).to(dtype)
    b = torch.randn(depth, 8, generator=generator).to(dtype)
    torch.testing.assert_close(product(path, a, b, seed), (a.double() @ b.double()).float(), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("depth", [8, 16, 40])
def test_tf32_product(depth):
    generator = torch.Generator().manual_seed(depth)
    a, b = torch.randn(16, depth, generator=generator), torch.randn(depth, 8, generator=generator)
    rounded = [tf32(x).double() for x in (a, b)]
    result = product("tf32", a, b)
    torch.testing.assert_close(result, (rounded[0] @ rounded[1]).float(), rtol=1e-6, atol=1e-5)
    assert not torch.allclose(result, a @ b, rtol=1e-6, atol=1e-6), "operands of ten bits must show"


def tf32(x: torch.Tensor) -> torch.Tensor:
    """Rounds the significand to 10 stored bits, ties away from zero."""
    fraction, exponent = torch.frexp(x.double())
    scaled = fraction * 2.0**11
    return torch.ldexp(torch.sign(scaled) * torch.floor(scaled.abs() + 0.5) / 2.0**11, exponent).float()


@pytest.mark.parametrize("path", ["k16", "k8", "shared"])
def test_every_element_has_its_place(path):
    """Unit matrices: each element of A and of B alone, so that no two misplaced elements can cancel."""
    b = (torch.arange(128).view(16, 8) + 1).half()
    for row in range(16):
        for k in range(0, 16, 5):
            a = torch.zeros(16, 16).half()
            a[row, k] = 1
            expected = torch.zeros(16, 8)
            expected[row] = b[k].float()
            assert torch.equal(product(path, a, b), expected)
