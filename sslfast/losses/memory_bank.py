"""MemoryBankModule, NNMemoryBankModule: a queue of past embeddings that serve as negatives, or as neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from sslfast.errors import UserError
from sslfast.losses.distributed import gather_rows
from sslfast.ops import knn
from sslfast.ops.nt_xent_contrast import in_one_op, unit_rows


class MemoryBankModule(nn.Module):
    """The last embeddings seen, first in first out.

    The bank starts with random unit vectors. Where a batch reaches the end of the bank, what does not fit is dropped
    and writing starts again at the top, as in lightly.

    Args:
        size: (entries, dim); 0 turns the bank off.
        gather_distributed: store the embeddings of all ranks, so that every rank holds the same bank.
        feature_dim_first: hand the entries out as (dim, entries) instead of (entries, dim).
        persistent: keep the bank in the state dictionary, so that a resumed run goes on with the same negatives; off,
            as in lightly, whose state dictionaries and these then have the same keys.

    Attributes:
        bank: (entries, dim) float32.
        bank_ptr: (1,) int64; the entry written next.

    Raises:
        UserError: a negative size, or one that is neither 0 nor (entries, dim).

    Source: He et al. 2020 (MoCo), section 3.2; Wu et al. 2018.
    """

    bank: Tensor
    bank_ptr: Tensor

    def __init__(
        self,
        size: int | Sequence[int],
        gather_distributed: bool = False,
        feature_dim_first: bool = True,
        persistent: bool = False,
    ):
        super().__init__()
        self.size = tuple(size) if isinstance(size, Sequence) and not isinstance(size, str) else (size,)
        self.gather_distributed = gather_distributed
        self.feature_dim_first = feature_dim_first
        if any(not isinstance(extent, int) or extent < 0 for extent in self.size):
            raise UserError(f"memory bank size is {size!r}; its entries must be whole numbers, 0 or more")
        if self.size == (0,):
            return
        if len(self.size) != 2:
            raise UserError(
                f"memory bank size is {size}; give (entries, dim), for example ({self.size[0]}, 128) for projections "
                "of 128 dimensions, or 0 to turn the bank off"
            )
        self.register_buffer("bank", functional.normalize(torch.randn(self.size), dim=-1), persistent)
        self.register_buffer("bank_ptr", torch.zeros(1, dtype=torch.long), persistent)

    def forward(
        self, output: Tensor, labels: Tensor | None = None, update: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Hands out the bank, then stores the batch.

        Args:
            output: (B, dim) embeddings of length 1.
            labels: ignored.
            update: whether to store `output` after the bank was read.

        Returns:
            `output` as given, and a copy of the bank from before the update, (dim, entries) or (entries, dim) without
            gradient; None for a bank of size 0.

        Raises:
            UserError: embeddings of another dimension than the bank's.
        """
        if self.size[0] == 0:
            return output, None
        if output.dim() != 2 or output.shape[1] != self.size[1]:
            raise UserError(
                f"embeddings have shape {tuple(output.shape)} and the memory bank {self.size}; "
                f"build it with memory_bank_size=({self.size[0]}, {output.shape[-1]})"
            )
        bank = self.bank.clone()
        if update:
            self._store(output.detach())
        return output, bank.T if self.feature_dim_first else bank

    @torch.no_grad()
    def _store(self, batch: Tensor) -> None:
        bank, pointer, entries = self.bank, self.bank_ptr, self.size[0]
        batch = gather_rows(batch) if self.gather_distributed else batch
        batch = batch[:entries].to(bank)
        if in_one_op(bank):
            begin = int(pointer)
            end = min(begin + len(batch), entries)
            bank[begin:end].copy_(batch[: end - begin])
            pointer.fill_(end % entries)
            return
        # Elsewhere positions stay on the device: a number on the host would wait for it, and break a compiled graph.
        position = pointer + torch.arange(len(batch), device=batch.device)
        row, fits = position % entries, position < entries
        bank.index_copy_(0, row, torch.where(fits[:, None], batch, bank[row]))
        pointer.copy_((pointer + len(batch)).clamp_max(entries) % entries)


class NNMemoryBankModule(MemoryBankModule):
    """The nearest neighbours of embeddings among the last ones seen; drop-in for lightly's class of this name.

    Nearest is what has the largest cosine; of equal ones the first in the bank. The search holds a tile of similarities
    at a time (`sslfast.ops.knn`).

    Args:
        size: (entries, dim), with at least one entry.
        gather_distributed: store the embeddings of all ranks, so that every rank holds the same bank.
        persistent: as of `MemoryBankModule`.

    Raises:
        UserError: a size that is not (entries, dim), or has no entries.

    Source: Dwibedi et al. 2021 (NNCLR), section 3.2, the support set.
    """

    def __init__(self, size: int | Sequence[int], gather_distributed: bool = False, persistent: bool = False):
        super().__init__(size, gather_distributed, feature_dim_first=False, persistent=persistent)
        if self.size[0] == 0:
            raise UserError(
                f"memory bank size is {size}; neighbours need a bank of at least 1 entry, for example 65536"
            )

    def forward(self, output: Tensor, update: bool = False) -> Tensor:  # type: ignore[override]
        """Looks for the neighbours, then stores the batch.

        Args:
            output: (B, dim) float32, float64, float16 or bfloat16, of any length.
            update: whether to store `output` as it is, after the bank was read.

        Returns:
            (B, dim) entries of the bank, float32, without gradient.

        Raises:
            UserError: embeddings of another dimension than the bank's.
        """
        _, bank = super().forward(output, update=update)
        assert bank is not None
        _, nearest = knn(unit_rows(output.to(bank)), unit_rows(bank), 1)
        return bank[nearest.squeeze(1)]
