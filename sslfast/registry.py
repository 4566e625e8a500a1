"""What exists, by name: plain dictionaries `name -> "module:attribute"`, imported when first used.

Adding a method, source, protocol, backbone or preset is one file in its room and one line here; a loss or an op has its
line in the `__init__` of its room.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from typing import Any

from sslfast.errors import UserError

METHODS = {
    "simclr": "sslfast.methods.simclr:SimCLR",
    "moco": "sslfast.methods.moco:MoCo",
    "byol": "sslfast.methods.byol:BYOL",
    "simsiam": "sslfast.methods.simsiam:SimSiam",
    "nnclr": "sslfast.methods.nnclr:NNCLR",
    "supcon": "sslfast.methods.supcon:SupCon",
    "rotation": "sslfast.methods.rotation:Rotation",
    "jigsaw": "sslfast.methods.jigsaw:Jigsaw",
    "relative_position": "sslfast.methods.relative_position:RelativePosition",
    "cpc": "sslfast.methods.cpc:CPC",
    "autoencoder": "sslfast.methods.autoencoder:Autoencoder",
    "denoising_autoencoder": "sslfast.methods.autoencoder:DenoisingAutoencoder",
    "colorization": "sslfast.methods.colorization:Colorization",
    "split_brain": "sslfast.methods.split_brain:SplitBrain",
}

SOURCES = {
    "shapes": "sslfast.data.sources.shapes:Shapes",
    "cifar10": "sslfast.data.sources.cifar10:CIFAR10",
    "folder": "sslfast.data.sources.folder:Folder",
    "webdataset": "sslfast.data.sources.webdataset:WebDataset",
}

PROTOCOLS = {
    "knn": "sslfast.evaluate.knn:evaluate_knn",
    "linear": "sslfast.evaluate.linear:evaluate_linear",
    "linear_conv": "sslfast.evaluate.linear_conv:evaluate_linear_conv",
    "nonlinear": "sslfast.evaluate.nonlinear:evaluate_nonlinear",
    "finetune": "sslfast.evaluate.finetune:evaluate_finetune",
}

BACKBONES = {
    "resnet18": "sslfast.models.resnet:resnet18",
    "resnet50": "sslfast.models.resnet:resnet50",
    "resnet10_narrow": "sslfast.models.resnet:resnet10_narrow",
    "conv9": "sslfast.models.conv9:Conv9",
    "nin": "sslfast.models.nin:NIN",
    "alexnet_fcn": "sslfast.models.alexnet:AlexNetFCN",
    "simplenet": "sslfast.models.simplenet:SimpleNet",
}

PRESETS = {
    "simclr": "sslfast.augment.presets:simclr",
    "moco_v1": "sslfast.augment.presets:moco_v1",
    "moco_v2": "sslfast.augment.presets:moco_v2",
    "simsiam": "sslfast.augment.presets:simsiam",
    "byol": "sslfast.augment.presets:byol",
    "barlow_twins": "sslfast.augment.presets:barlow_twins",
    "vicreg": "sslfast.augment.presets:vicreg",
    "swav": "sslfast.augment.presets:swav",
    "dino": "sslfast.augment.presets:dino",
    "rotation": "sslfast.augment.presets:rotation",
    "plain": "sslfast.augment.presets:plain",
    "noisy": "sslfast.augment.presets:noisy",
    "supervised": "sslfast.augment.presets:supervised",
}

# Recipe files in sslfast/reproduce.
REPRODUCTIONS = {
    "denoising-cifar10": "denoising-cifar10.yaml",
    "split-brain": "split-brain.yaml",
    "rotation-angles": "rotation-angles.yaml",
}

TABLES = {
    "methods": METHODS,
    "data": SOURCES,
    "protocols": PROTOCOLS,
    "backbones": BACKBONES,
    "presets": PRESETS,
}


def nearest(name: str, valid: list[str]) -> str:
    """The valid names nearest to `name`, or all of them when none is near, as text for an error message."""
    close = difflib.get_close_matches(name, valid, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(repr(c) for c in close) + "?"
    return "valid names: " + ", ".join(sorted(valid))


def resolve(kind: str, name: str) -> Any:
    """The class or function registered as `name` in table `kind`, or a user's own given as "module:attribute".

    A user's own module may lie in the working directory, too: Python looks there last.

    Raises:
        UserError: unknown name (the message lists the nearest ones), or a module that cannot be imported.
    """
    table = TABLES[kind]
    target = table.get(name, name if ":" in name else None)
    if target is None:
        raise UserError(f"unknown {kind.rstrip('s')} {name!r}; {nearest(name, list(table))}")
    if name not in table and os.getcwd() not in sys.path:  # a console script's path lacks it
        sys.path.append(os.getcwd())
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        if name in table:
            raise
        raise UserError(
            f"cannot load {name!r}: {error}; write it as 'package.module:Name', with the package installed, on "
            f"PYTHONPATH or in the working directory {os.getcwd()}"
        ) from error
