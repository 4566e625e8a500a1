"""Export: the backbone of a run, in the form other libraries load."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from sslfast.errors import DataError, UserError
from sslfast.models import Backbone, TimmBackbone
from sslfast.registry import nearest
from sslfast.train import load_run

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

    Args:
        run: folder that `sslfast pretrain` made.
        format: safetensors, timm, torchvision or onnx.
        out: file to write; `backbone` with the format's suffix, in the run folder, when absent.

    Returns:
        The file.

    Raises:
        UserError: unknown format, a backbone that the library does not have, or onnx is not installed.
        DataError: the file cannot be written.
    """
    if format not in SUFFIXES:
        raise UserError(f"unknown format {format!r}; {nearest(format, list(SUFFIXES))}")
    loaded = load_run(run)
    name, backbone = loaded.config.backbone, loaded.backbone().eval().cpu()
    out = Path(run) / f"backbone{SUFFIXES[format]}" if out is None else Path(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        if format == "onnx":
            _write_onnx(backbone, out)
        else:
            facts = {
                "format": "pt",
                "backbone": name,
                "image_size": str(backbone.image_size),
                "in_channels": str(backbone.in_channels),
            }
            save_file(_state(backbone, name, format), out, metadata=facts)
    except OSError as error:
        raise DataError(f"cannot write {out}: {error.strerror or error}; choose another file with --out") from error
    return out


def _state(backbone: Backbone, name: str, format: str) -> dict[str, Tensor]:
    if format == "safetensors":
        return {key: value.contiguous() for key, value in backbone.state_dict().items()}
    if not isinstance(backbone, TimmBackbone):
        raise UserError(f"{format} has no network like backbone {name!r}; choose --format safetensors or onnx")
    state = {key: value.contiguous() for key, value in backbone.network.state_dict().items()}
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


def _write_onnx(backbone: Backbone, out: Path) -> None:
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"format onnx needs {' and '.join(missing)}; install with `pip install 'sslfast[onnx]'`")
    # Two images: a batch of one would be taken for a constant.
    example = torch.zeros(2, backbone.in_channels, backbone.image_size, backbone.image_size)
    torch.onnx.export(
        backbone,
        (example,),
        out,
        dynamo=True,
        input_names=["images"],
        output_names=["features"],
        dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
        external_data=False,
        verbose=False,
    )
