"""PixelCNN: what a row of the context depends on, and its convolutions against masked 3 x 3 ones."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from sslfast.errors import UserError
from sslfast.models import PixelCNN


@pytest.mark.parametrize(("rows", "columns"), [(7, 7), (1, 1), (3, 5)])
def test_context_keeps_the_shape(rows: int, columns: int) -> None:
    context = PixelCNN(6, 4)(torch.randn(2, 6, rows, columns))
    assert context.shape == (2, 6, rows, columns) and (context >= 0).all()


@pytest.mark.parametrize("row", range(7))
def test_a_row_depends_on_no_row_below(row: int) -> None:
    torch.manual_seed(0)
    model = PixelCNN(8, 16)
    grid = torch.randn(2, 8, 7, 7)
    other = grid.clone()
    other[:, :, row + 1 :] = torch.randn(2, 8, 6 - row, 7)
    assert torch.equal(model(grid)[:, :, : row + 1], model(other)[:, :, : row + 1])


@pytest.mark.parametrize("blocks", [1, 2, 5])
def test_reach(blocks: int) -> None:
    """A place sees as many rows above, and columns to each side, as there are blocks; and never another image."""
    torch.manual_seed(0)
    grid = torch.randn(2, 8, 7, 7, requires_grad=True)
    PixelCNN(8, 16, blocks)(grid)[0, :, 5, 3].sum().backward()
    assert grid.grad is not None
    seen = grid.grad.abs().sum(1)
    expected = torch.zeros(2, 7, 7, dtype=torch.bool)
    expected[0, max(0, 5 - blocks) : 6, max(0, 3 - blocks) : 4 + blocks] = True
    assert torch.equal(seen > 0, expected)


def test_block_is_a_masked_convolution() -> None:
    """The row and the column are one 3 x 3 window whose lowest row, and what lies outside of the grid, are 0."""
    torch.manual_seed(0)
    model = PixelCNN(5, 4, blocks=1).double()
    (block,) = model.blocks
    for name, parameter in block.named_parameters():
        if name == "across.bias":  # the mask is set behind it: it is 0 above the grid
            torch.nn.init.zeros_(parameter)
    grid = torch.randn(3, 5, 7, 6, dtype=torch.float64)
    above = torch.einsum("omy,mix->oiyx", block.down.weight[..., 0], block.across.weight[:, :, 0])
    window = torch.cat([above, torch.zeros_like(above[:, :, :1])], dim=2)
    hidden = functional.conv2d(grid, block.reduce.weight, block.reduce.bias).relu()
    hidden = functional.conv2d(hidden, window, block.down.bias, padding=1).relu()
    expected = (grid + functional.conv2d(hidden, block.expand.weight, block.expand.bias)).relu()
    torch.testing.assert_close(model(grid), expected)


@pytest.mark.parametrize("name", ["features", "hidden_features", "blocks"])
def test_bad_sizes(name: str) -> None:
    with pytest.raises(UserError, match=f"{name} of the PixelCNN is 0"):
        PixelCNN(**{"features": 4, name: 0})
