"""lightly's heads and memory bank (`lightly.models.modules`): its names, arguments, initial weights and state dicts."""

from __future__ import annotations

from torch import Tensor, nn

from sslfast.losses import NNMemoryBankModule
from sslfast.models.heads import Projector

__all__ = [
    "BYOLPredictionHead",
    "BYOLProjectionHead",
    "BarlowTwinsProjectionHead",
    "MoCoProjectionHead",
    "NNCLRPredictionHead",
    "NNCLRProjectionHead",
    "NNMemoryBankModule",
    "SimCLRProjectionHead",
    "SimSiamPredictionHead",
    "SimSiamProjectionHead",
    "SwaVProjectionHead",
]


class ProjectionHead(Projector):
    """A head as lightly calls it."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, input_dim) -> (B, output_dim)."""
        return super().forward(x)


class SimCLRProjectionHead(ProjectionHead):
    """SimCLR's projector."""

    def __init__(
        self,
        input_dim: int = 2048,
        hidden_dim: int = 2048,
        output_dim: int = 128,
        num_layers: int = 2,
        batch_norm: bool = True,
    ) -> None:
        super().__init__(input_dim, hidden_dim, output_dim, num_layers, batch_norm, batch_norm)


class MoCoProjectionHead(ProjectionHead):
    """MoCo's projector: without batch norm in version 2, with it in version 3."""

    def __init__(
        self,
        input_dim: int = 2048,
        hidden_dim: int = 2048,
        output_dim: int = 128,
        num_layers: int = 2,
        batch_norm: bool = False,
    ) -> None:
        super().__init__(input_dim, hidden_dim, output_dim, num_layers, batch_norm, batch_norm)


class BYOLProjectionHead(ProjectionHead):
    """BYOL's projector."""

    def __init__(self, input_dim: int = 2048, hidden_dim: int = 4096, output_dim: int = 256) -> None:
        super().__init__(input_dim, hidden_dim, output_dim, output_norm=False)


class BYOLPredictionHead(ProjectionHead):
    """BYOL's predictor."""

    def __init__(self, input_dim: int = 256, hidden_dim: int = 4096, output_dim: int = 256) -> None:
        super().__init__(input_dim, hidden_dim, output_dim, output_norm=False)


class SimSiamProjectionHead(ProjectionHead):
    """SimSiam's projector, whose last batch norm has no weights."""

    def __init__(self, input_dim: int = 2048, hidden_dim: int = 2048, output_dim: int = 2048) -> None:
        super().__init__(input_dim, hidden_dim, output_dim, num_layers=3)
        self.layers[-1] = nn.BatchNorm1d(output_dim, affine=False)


class SimSiamPredictionHead(ProjectionHead):
    """SimSiam's predictor."""

    def __init__(self, input_dim: int = 2048, hidden_dim: int = 512, output_dim: int = 2048) -> None:
        super().__init__(input_dim, hidden_dim, output_dim, output_norm=False)


class NNCLRProjectionHead(ProjectionHead):
    """NNCLR's projector."""

    def __init__(self, input_dim: int = 2048, hidden_dim: int = 2048, output_dim: int = 256) -> None:
        super().__init__(input_dim, hidden_dim, output_dim, num_layers=3)


class NNCLRPredictionHead(ProjectionHead):
    """NNCLR's predictor."""

    def __init__(self, input_dim: int = 256, hidden_dim: int = 4096, output_dim: int = 256) -> None:
        super().__init__(input_dim, hidden_dim, output_dim, output_norm=False)


class BarlowTwinsProjectionHead(ProjectionHead):
    """Barlow Twins' projector."""

    def __init__(self, input_dim: int = 2048, hidden_dim: int = 8192, output_dim: int = 8192) -> None:
        super().__init__(input_dim, hidden_dim, output_dim, num_layers=3, output_norm=False)


class SwaVProjectionHead(ProjectionHead):
    """SwAV's projector."""

    def __init__(self, input_dim: int = 2048, hidden_dim: int = 2048, output_dim: int = 128) -> None:
        super().__init__(input_dim, hidden_dim, output_dim, output_norm=False)
