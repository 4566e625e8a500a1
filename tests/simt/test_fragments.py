"""Each instruction of csrc/stable/tensor_core.h and hopper.h on the bench, against outside sources."""

import pytest
import torch
from simt import bench, layouts

pytestmark = pytest.mark.simt


@pytest.mark.parametrize("name", ["f16_k8", "f16_k16", "bf16_k8", "bf16_k16", "tf32_k8"])
def test_fragments_of_a_warp(name):
    arguments, expected = layouts.warp_case(name)
    assert torch.equal(bench.call(*arguments)[0], expected)


@pytest.mark.parametrize("case", layouts.SUMS)
def test_sums_of_a_warp(case):
    name, c, products, a100, h100 = layouts.SUMS[case]
    arguments = layouts.lone_products(name, c, products)
    assert bench.call(*arguments)[0][0, 0] == a100
    with bench.hopper():
        assert bench.call(*arguments)[0][0, 0] == h100


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("transposed", [False, True])
def test_ldmatrix(transposed, count):
    arguments, expected = layouts.matrices_case(transposed, count)
    assert torch.equal(bench.call(*arguments)[0], expected)


@pytest.mark.parametrize("name", layouts.WORDS)
def test_words(name):
    arguments, expected = layouts.words_case(name)
    assert torch.equal(bench.call(*arguments)[0], expected)


@pytest.mark.parametrize("slab", [0, 1, 3])
@pytest.mark.parametrize(("path", "columns", "dtype"), layouts.GROUPS)
def test_fragments_of_a_group(path, columns, dtype, slab):
    arguments, expected = layouts.group_case(path, columns, dtype, slab)
    with bench.hopper():
        assert torch.equal(bench.call(*arguments)[0], expected)
