"""Run folders: what a finished run leaves behind, and how it is opened again."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.utils import make_grid, save_image

from sslfast import __version__, methods
from sslfast.augment import ViewSpec, unnormalized
from sslfast.data import ImageBatch, Source, build_source
from sslfast.errors import TrainingError, UserError
from sslfast.methods import Method
from sslfast.models import Backbone
from sslfast.train.checkpoint import CHECKPOINT_FILE, load_checkpoint, load_weights, write_atomically
from sslfast.train.config import CONFIG_FILE, TrainConfig, read_config

BACKBONE_FILE = "backbone.safetensors"
PICTURES_FOLDER = "pictures"
PICTURED_IMAGES = 8


@dataclass(frozen=True)
class Run:
    """A run folder that pretraining left.

    Attributes:
        path: the folder.
        config: resolved.
    """

    path: Path
    config: TrainConfig

    def method(self) -> Method:
        """The method with the weights of the last checkpoint, on the CPU, in eval mode.

        Raises:
            UserError: the checkpoint is missing, damaged, or of another method.
        """
        path = self.path / CHECKPOINT_FILE
        state = load_checkpoint(path, asdict(self.config))
        method = build_method(self.config, state["in_channels"])
        load_weights(method, state, path)
        return method.eval()

    def step(self) -> int:
        """Optimiser steps behind the weights of the last checkpoint.

        Raises:
            UserError: the checkpoint is missing, damaged, or of another method.
        """
        return int(load_checkpoint(self.path / CHECKPOINT_FILE, asdict(self.config))["position"]["step"])

    def backbone(self) -> Backbone:
        """The pretrained backbone, on the CPU, in eval mode.

        Raises:
            UserError: the checkpoint is missing, damaged, or of another method.
        """
        return self.method().backbone

    def evaluation_view(self) -> ViewSpec:
        """The view the backbone expects: size and normalisation of the training, without randomness.

        Raises:
            UserError: the checkpoint is missing, damaged, or of another method.
        """
        return self.method().evaluation_view


def load_run(path: str | Path) -> Run:
    """Opens a run folder.

    Raises:
        UserError: the folder is missing or no run; its config.yaml is damaged.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"there is no folder {path}; name the folder that pretrain made with --out")
    return Run(path, read_config(path / CONFIG_FILE))


def find_source(config: TrainConfig, split: str, limit: int = 0) -> Source:
    """A split of the data of a resolved configuration, ready to read.

    Args:
        config: names the data, its root and its options.
        split: part of the data set.
        limit: only the first so many images; 0, all.

    Raises:
        UserError: unknown names or options.
        DataError: the data is missing or of the wrong kind.
    """
    return build_source(config.data, config.root, split, limit=limit, on_error=config.on_error, **config.data_options)


def build_method(config: TrainConfig, in_channels: int) -> Method:
    """The method of a resolved configuration, with fresh weights.

    Raises:
        UserError: unknown names or options.
    """
    return methods.build(
        config.method, config.backbone, config.image_size, config.seed, in_channels, **config.method_options
    )


def write_backbone(
    method: Method, config: TrainConfig, path: Path, state: Mapping[str, Tensor] | None = None, cure: str | None = None
) -> None:
    """Writes weights of a backbone as safetensors, and as metadata (all text) what they are used with.

    Args:
        method: has the backbone.
        config: resolved.
        path: the file.
        state: the weights by the names of another library; absent, by the backbone's own.
        cure: as in `write_atomically`.

    Raises:
        TrainingError: the file cannot be written; what it held before stays.
    """
    view = method.evaluation_view
    state = method.backbone.state_dict() if state is None else state
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    metadata = {
        "backbone": config.backbone,
        "image_size": str(config.image_size),
        "in_channels": str(method.backbone.in_channels),
        "mean": json.dumps(view.mean),
        "std": json.dumps(view.std),
        "method": config.method,
        "sslfast": __version__,
    }
    write_atomically(path, safetensors.torch.save(weights, metadata), cure)


@torch.no_grad()
def write_pictures(method: Method, images: ImageBatch, out: Path) -> None:
    """Writes pictures/views.png, one row a view, and a row for each of the method's own pictures, of the first images.

    Views of several sizes are all shown at the largest height and width among them.

    Raises:
        TrainingError: a file cannot be written.
    """
    folder = out / PICTURES_FOLDER
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise TrainingError(f"cannot make the folder {folder}: {error.strerror}; free space there") from error
    views = method.views(images.select(torch.arange(min(PICTURED_IMAGES, len(images)), device=images.device)))
    specs = method.multi_view.specs
    rows = [unnormalized(tensor, spec) for tensor, spec in zip(views.tensors, specs, strict=True)]
    pictures: dict[str, list[Tensor]] = {"views": rows}
    pictures |= {name: [picture] for name, picture in method.pictures(views).items()}
    for name, tensors in pictures.items():
        file = io.BytesIO()
        height, width = (max(row.shape[side] for row in tensors) for side in (2, 3))
        tiles = [image for row in tensors for image in functional.interpolate(visible(row), (height, width))]
        grid = make_grid(tiles, nrow=len(tensors[0]), padding=2, pad_value=1.0)
        save_image(grid, file, format="png")
        write_atomically(folder / f"{name}.png", file.getbuffer())


def visible(images: Tensor) -> Tensor:
    """Images (B, C, H, W) as (B, 3, H, W): gray when they are not of three channels, from the first one."""
    images = images.float().cpu().clamp(0.0, 1.0)
    return images if images.shape[1] == 3 else images[:, :1].expand(-1, 3, -1, -1)
