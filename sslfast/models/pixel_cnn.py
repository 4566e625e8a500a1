"""PixelCNN: context of every row of a grid from the rows above it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from sslfast.errors import UserError


class PixelCNN(nn.Module):
    """Residual blocks of masked convolutions: the context at row r depends on the rows up to r, r included.

    A block is a bottleneck with a 2 x 3 convolution, which sees a row and the one above it, so that n blocks see n rows
    above. There is no normalisation over a batch or a grid, which
    would carry rows from below into the context.

    Args:
        features: length of the vectors in the grid, and of their context.
        hidden_features: width of the bottleneck.
        blocks: number of residual blocks.

    Raises:
        UserError: a length, width or number below 1.

    Source: van den Oord et al. 2016 (PixelCNN); the block is that of Hénaff et al. 2020 (CPC v2), appendix A.2.
    """

    def __init__(self, features: int, hidden_features: int = 256, blocks: int = 5) -> None:
        super().__init__()
        for name, value in {"features": features, "hidden_features": hidden_features, "blocks": blocks}.items():
            if value < 1:
                raise UserError(f"{name} of the PixelCNN is {value}; it must be at least 1")
        self.blocks = nn.ModuleList(_Block(features, hidden_features) for _ in range(blocks))

    def forward(self, grid: Tensor) -> Tensor:
        """(B, features, rows, columns) -> context of the same shape, 0 or more."""
        for block in self.blocks:
            grid = grid + block(grid)
        return functional.relu(grid)


class _Block(nn.Module):
    def __init__(self, features: int, hidden_features: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(features, hidden_features, 1)
        # The 2 x 3 window is split into a row and a column, as the paper does.
        self.across = nn.Conv2d(hidden_features, hidden_features, (1, 3), padding=(0, 1))
        self.down = nn.Conv2d(hidden_features, hidden_features, (2, 1))
        self.expand = nn.Conv2d(hidden_features, features, 1)

    def forward(self, grid: Tensor) -> Tensor:
        hidden = self.across(functional.relu(self.reduce(grid)))
        # The row of zeros above the grid is the mask: row r meets the row above it, and never the one below.
        hidden = self.down(functional.pad(hidden, (0, 0, 1, 0)))
        return self.expand(functional.relu(hidden))
