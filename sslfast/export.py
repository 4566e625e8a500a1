"""Export: the backbone of a run, in the form other libraries load."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import Tensor

from sslfast.errors import TrainingError, UserError
from sslfast.models import Backbone, TimmBackbone
from sslfast.registry import nearest
from sslfast.train import load_run
from sslfast.train.checkpoint import write_atomically
from sslfast.train.run import write_backbone

CURE = "choose another file with --out, or free space there"
SUFFIXES = {
    "safetensors": ".safetensors",
    "timm": ".timm.safetensors",
    "torchvision": ".torchvision.safetensors",
    "onnx": ".onnx",
}


def export(run: Path, format: str = "safetensors", out: Path | None = None) -> Path:
    """Saves the backbone of a run for use elsewhere.

    - safetensors: weights by sslfast's names, for `sslfast.models.build_backbone(...).load_state_dict`.
    - timm, torchvision: weights by that library's names, without the classifier, for its `load_state_dict`.
    - onnx: the network itself; input `images` (B, C, H, W) float32, normalised; output `features` (B, num_features).

    Weights come with metadata, as in the run's backbone.safetensors: image size, channels, mean and standard deviation
    of the pixels. A file that is there is replaced in one step, once all is written.

    Args:
        run: folder that `sslfast pretrain` made.
        format: safetensors, timm, torchvision or onnx.
        out: file to write; `backbone` with the format's suffix, in the run folder, when absent.

    Returns:
        The file.

    Raises:
        UserError: unknown format, a backbone that the library does not have, onnx is not installed, or `out` is no
            file.
        TrainingError: the training has diverged, or the file cannot be written.
    """
    if format not in SUFFIXES:
        raise UserError(f"unknown format {format!r}; {nearest(format, list(SUFFIXES))}")
    loaded = load_run(run)
    out = Path(run) / f"backbone{SUFFIXES[format]}" if out is None else Path(out)
    if out.exists() and not out.is_file():
        raise UserError(f"{out} is {'a folder' if out.is_dir() else 'a device'}; name a file with --out")
    method = loaded.method()
    if broken := [name for name, value in method.backbone.state_dict().items() if not value.isfinite().all()]:
        raise TrainingError(
            f"the weights of {run} are not finite ({len(broken)} tensors, {broken[0]} first), so its training has "
            "diverged; train it again with a lower learning rate"
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"cannot make the folder {out.parent}: {error.strerror or error}; {CURE}") from error
    if format == "onnx":
        write_atomically(out, _onnx(method.backbone), CURE)
    else:
        state = _state(method.backbone, loaded.config.backbone, format)
        write_backbone(method, loaded.config, out, state, CURE)
    return out


def _state(backbone: Backbone, name: str, format: str) -> dict[str, Tensor]:
    if format == "safetensors":
        return backbone.state_dict()
    if not isinstance(backbone, TimmBackbone):
        raise UserError(f"{format} has no network like backbone {name!r}; choose --format safetensors or onnx")
    state = backbone.network.state_dict()
    if format == "torchvision":
        _check_torchvision(state, name)
    return state


def _check_torchvision(state: dict[str, Tensor], name: str) -> None:
    """Raises unless torchvision's network of that name has the same weights, its stem and classifier apart."""
    import torchvision

    shapes = {}
    if name in torchvision.models.list_models(module=torchvision.models):
        with torch.device("meta"):
            network = torchvision.models.get_model(name, weights=None)
        shapes = {key: value.shape for key, value in network.state_dict().items() if not key.startswith("fc.")}
    # The stem differs by design: up to 64 px it is one 3x3 convolution.
    if shapes.keys() != state.keys() or any(
        value.shape != shapes[key] for key, value in state.items() if key != "conv1.weight"
    ):
        raise UserError(
            f"torchvision has no network with the weights of backbone {name!r}; "
            "resnet18 and resnet50 can be exported to it, others with --format timm, safetensors or onnx"
        )


def _onnx(backbone: Backbone) -> bytes:
    """The network as an ONNX file."""
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"format onnx needs {' and '.join(missing)}; install with `pip install 'sslfast[onnx]'`")
    # Two images: a batch of one would be taken for a constant.
    example = torch.zeros(2, backbone.in_channels, backbone.image_size, backbone.image_size)
    program = torch.onnx.export(
        backbone,
        (example,),
        dynamo=True,
        input_names=["images"],
        output_names=["features"],
        dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
        verbose=False,
    )
    assert program is not None
    return program.model_proto.SerializeToString()
