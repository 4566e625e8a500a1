"""Shuffled batch norm: no rank normalises an image together with those its query saw."""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn

from sslfast.losses.distributed import gather_rows, rank, world_size


@torch.no_grad()
def encode_shuffled(encoder: nn.Module, images: Tensor) -> Tensor:
    """Encodes images with the ranks' batches shuffled among them, and gives each rank its own back, in order.

    Batch norm would otherwise betray which key was in the query's batch. All ranks must call this together, with
    batches of the same shape. With one rank it is the encoder alone: there is nobody to exchange images with.

    Args:
        encoder: from images to embeddings (B, d).
        images: (B, C, H, W) floating point, this rank's.

    Returns:
        (B, d) embeddings of `images`, without gradient.

    Source: He et al. 2020 (MoCo), section 3.3, shuffling BN.
    """
    if world_size() == 1:
        return encoder(images)
    everything = gather_rows(images)
    order = torch.randperm(len(everything), device=images.device)
    distributed.broadcast(order, src=0)
    mine = rank()
    encoded = encoder(everything[order.chunk(world_size())[mine]])
    back = order.argsort().chunk(world_size())[mine]
    return gather_rows(encoded)[back]
