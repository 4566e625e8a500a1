"""What exists, by name: plain dictionaries `name -> "module:attribute"`, imported when first used.

Adding a method, source, protocol, backbone or preset is one file in its room and one line here; a loss or an op has its
line in the `__init__` of its room.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Mapping
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


# What sslfast passes to a user's own class or function, and what that has to be.
PASSED = {
    "data": ("root", "split", "limit"),
    "protocols": ("encoder", "subset"),
    "backbones": ("image_size", "in_channels"),
}
NEEDED = {
    "methods": "derive your class from it; see docs/your-own-method.md",
    "data": "your own is a class that takes root, split and limit and has classes, __len__ and read(); "
    "see docs/your-own-data.md",
    "protocols": "your own is a function that takes an sslfast.evaluate.Encoder and the positions of the training "
    "images, and returns sslfast.evaluate.Scores; see `sslfast evaluate --help`",
    "backbones": "your own takes image_size and in_channels and gives an sslfast.models.Backbone",
}


def nearest(name: str, valid: list[str]) -> str:
    """The valid names nearest to `name`, in any case, or all of them when none is near, as text for a message."""
    by_lower = {entry.lower(): entry for entry in valid}
    close = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.55)
    if close:
        return "did you mean " + " or ".join(repr(by_lower[c]) for c in close) + "?"
    return "valid names: " + ", ".join(sorted(valid))


def resolve(kind: str, name: str) -> Any:
    """The class or function registered as `name` in table `kind`, or a user's own given as "module:attribute".

    A user's own module may lie in the working directory, too: Python looks there last.

    Raises:
        UserError: unknown name (the message lists the nearest ones), a module that cannot be imported, or a class or
            function that is none of that kind.
    """
    table = TABLES[kind]
    target = table.get(name, name if ":" in name else None)
    if target is None:
        raise UserError(f"unknown {kind.rstrip('s')} {name!r}; {nearest(name, list(table))}")
    if name not in table and os.getcwd() not in sys.path:  # a console script's path lacks it
        sys.path.append(os.getcwd())
    module, _, attribute = target.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        if name in table:
            raise
        raise UserError(
            f"cannot load {name!r}: {error}; write it as 'package.module:Name', with the package installed, on "
            f"PYTHONPATH or in the working directory {os.getcwd()}"
        ) from error
    if name not in table:
        _check_own(kind, name, found)
    return found


def check_call(kind: str, name: str, function: Any, options: Mapping[str, Any], whole: bool = True) -> None:
    """Raises UserError unless `function`, a user's own of this kind, can be called as sslfast does, with `options`.

    Args:
        kind: table of the registry.
        name: as the user gave it.
        function: what it names.
        options: what is passed beside `PASSED`, by name.
        whole: these are all options; False, more may come.
    """
    passed = dict.fromkeys(PASSED[kind])
    arguments, keywords = (list(passed), options) if kind == "protocols" else ([], {**passed, **options})
    try:
        signature = inspect.signature(function)
        (signature.bind if whole else signature.bind_partial)(*arguments, **keywords)
    except (TypeError, ValueError) as error:  # not callable, other parameters, or a builtin that does not tell them
        given = ", ".join([*passed, *options])
        raise UserError(f"{name!r} cannot be called with {given}: {error}; {NEEDED[kind]}") from error


def _check_own(kind: str, name: str, found: Any) -> None:
    """Raises UserError unless a user's own `found` can be of this kind."""
    if kind in PASSED:
        check_call(kind, name, found, {}, whole=False)
    elif kind == "methods":
        from sslfast.methods.base import Method  # not above: the names are listed without torch

        if not (isinstance(found, type) and issubclass(found, Method)):
            raise UserError(f"{name!r} is no sslfast.methods.Method; {NEEDED[kind]}")
