"""TrainConfig: everything that makes a run, where its values come from, and config.yaml."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

import torch
import yaml

from sslfast import __version__, registry
from sslfast.errors import UserError
from sslfast.models.backbone import check_backbone_name
from sslfast.options import described, fits, number_hint

CONFIG_FILE = "config.yaml"
Device: TypeAlias = Literal["auto", "cpu", "cuda"]

# Typed Any so that a field reads as its real type: `resolve` replaces every LATER before anything uses it.
LATER: Any = None

# For what neither the user nor the method's recipe sets.
DEFAULTS: dict[str, Any] = {
    "method_options": {},
    "split": "train",
    "data_options": {},
    "limit": 0,
    "on_error": "raise",
    "loader": "memory",
    "backbone": "resnet18",
    "image_size": 32,
    "epochs": 200,
    "batch_size": 256,
    "optimizer": "sgd",
    "learning_rate": 0.06,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "schedule": "cosine",
    "milestones": [],
    "warmup_epochs": 0.0,
    "accumulate": 1,
    "clip_norm": 0.0,
    "compile": False,
    "channels_last": True,
    "seed": 0,
    "device": "auto",
    "devices": 1,
    "nodes": 1,
    "max_steps": 0,
    "checkpoint_every": 1,
}

# The least of every number, and what it must be less than.
BOUNDS: dict[str, tuple[float, float]] = {
    "limit": (0, math.inf),
    "image_size": (1, math.inf),
    "epochs": (1, math.inf),
    "batch_size": (1, math.inf),
    "accumulate": (1, math.inf),
    "learning_rate": (0, math.inf),
    "momentum": (0, 1),
    "weight_decay": (0, math.inf),
    "warmup_epochs": (0, math.inf),
    "clip_norm": (0, math.inf),
    "seed": (0, 2**31),
    "devices": (1, math.inf),
    "nodes": (1, math.inf),
    "max_steps": (0, math.inf),
    "checkpoint_every": (1, math.inf),
}

# What a source and a method are given besides their own options, and the option of the run that says it.
GIVEN_OPTIONS = {
    "data_options": {"name": "data", "root": "root", "split": "split", "limit": "limit", "on_error": "on-error"},
    "method_options": {
        "name": "method",
        "backbone": "backbone",
        "image_size": "image-size",
        "seed": "seed",
        "in_channels": "data",
    },
}

# Where and how long a run computes may change when it is resumed; anything else would make it another run.
FREE_ON_RESUME = ("root", "loader", "out", "device", "devices", "nodes", "max_steps", "checkpoint_every")


@dataclass
class TrainConfig:
    """Everything that makes a run; what is left out comes from the method's recipe, then from the defaults named here.

    Attributes:
        method: a name of `sslfast list methods`, or a class as "module:Class".
        method_options: the method's own options; `sslfast list methods --name METHOD` explains them.
        data: a name of `sslfast list data`, or a class as "module:Class".
        root: folder or file of the data, where the source needs one.
        split: part of the data set; "train".
        data_options: the source's own options; `sslfast list data --name DATA` explains them.
        limit: train on the first so many images, which hold all classes (every source sees to that); 0, all.
        on_error: a corrupt image ends the run ("raise"), or is left out and counted ("skip"); "raise".
        loader: keep the decoded data set in the device's memory ("memory"), or decode image files as they are needed
            ("dali"), for sets that do not fit; "memory".
        backbone: a name of `sslfast list backbones`, or of a timm model; "resnet18".
        image_size: side of the views in pixels, 32; images of other sizes are scaled, smaller ones up.
        out: the run folder; "runs/<method>".
        epochs: passes over the data; 200.
        batch_size: images of a forward pass, over all devices together; 256.
        accumulate: forward passes of one optimiser step, whose gradients are averaged; 1.
        optimizer: sgd, adam, adamw or lars; sgd.
        learning_rate: highest learning rate, used as given at any batch size; 0.06.
        momentum: of sgd and lars, in [0, 1); 0.9.
        weight_decay: of everything; under lars and adamw, of all but biases and normalisation; 5e-4.
        schedule: cosine (to zero), exponential (divide by 10 after every epoch), step (divide by 10 at every
            milestone), plateau (divide by 10 when 5 epochs did not lower the loss) or constant; cosine.
        milestones: epochs, in ascending order, after which the step schedule divides the learning rate; none.
        warmup_epochs: epochs of linear warm-up, per step, of any schedule but plateau, at most all of them; 0. A
            recipe's own is cut to a tenth of the epochs.
        clip_norm: largest norm of the gradient; 0, no clipping.
        precision: 32-true, bf16-mixed or 16-mixed; bf16-mixed on CUDA and 32-true elsewhere.
        compile: compile the method with torch.compile; off.
        channels_last: memory layout of images and convolutions; on.
        seed: of the weights, the order of the images and their views, in [0, 2^31); 0.
        device: auto, cpu or cuda; auto.
        devices: processes on this machine, one a device, unless torchrun or SLURM started several; 1.
        nodes: machines; 1.
        max_steps: stop after that many optimiser steps, with the schedule still spanning all epochs; 0, no limit.
        checkpoint_every: epochs between checkpoints; 1.
    """

    method: str = LATER
    method_options: dict[str, Any] = LATER
    data: str = LATER
    root: str | None = None
    split: str = LATER
    data_options: dict[str, Any] = LATER
    limit: int = LATER
    on_error: Literal["raise", "skip"] = LATER
    loader: Literal["memory", "dali"] = LATER
    backbone: str = LATER
    image_size: int = LATER
    out: str = LATER
    epochs: int = LATER
    batch_size: int = LATER
    accumulate: int = LATER
    optimizer: Literal["sgd", "adam", "adamw", "lars"] = LATER
    learning_rate: float = LATER
    momentum: float = LATER
    weight_decay: float = LATER
    schedule: Literal["cosine", "exponential", "step", "plateau", "constant"] = LATER
    milestones: list[float] = LATER
    warmup_epochs: float = LATER
    clip_norm: float = LATER
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = LATER
    compile: bool = LATER
    channels_last: bool = LATER
    seed: int = LATER
    device: Device = LATER
    devices: int = LATER
    nodes: int = LATER
    max_steps: int = LATER
    checkpoint_every: int = LATER


def resolve(config: TrainConfig, saved: TrainConfig | None = None) -> TrainConfig:
    """Every value of a run: what `config` sets, then the saved run's, the method's recipe, the defaults.

    Args:
        config: values that are None are filled in.
        saved: the configuration of the run that is resumed; `config` may then change only where it computes.

    Raises:
        UserError: no method or data given, a value outside its range, or another run than the saved one.
    """
    given = {name: _plain(value) for name, value in asdict(config).items() if value is not None}
    if saved is not None:
        _check_same_run(given, saved)
        return _checked(replace(saved, **given))
    for name in ("method", "data"):
        if name not in given:
            kind = registry.TABLES["methods" if name == "method" else "data"]
            raise UserError(f"no {name} given; set --{name} to one of: {', '.join(kind)}")
    registry.resolve("data", given["data"])
    check_backbone_name(given.get("backbone", DEFAULTS["backbone"]))
    recipe = dict(registry.resolve("methods", given["method"]).recipe)
    known = {field.name for field in fields(TrainConfig)}
    for name in recipe.keys() - known:
        raise UserError(
            f"the recipe of method {given['method']!r} sets {name!r}; {registry.nearest(name, sorted(known))}"
        )
    optimizer = recipe.get("optimizer")
    if "learning_rate" in recipe and "learning_rate" not in given and given.get("optimizer", optimizer) != optimizer:
        raise UserError(
            f"the learning rate {recipe['learning_rate']} of method {given['method']!r} is meant for {optimizer}; "
            f"set --learning-rate for {given['optimizer']}"
        )
    if given.get("schedule") == "plateau":
        recipe.pop("warmup_epochs", None)  # it goes with the recipe's own schedule
    values = {**DEFAULTS, "out": f"runs/{given['method'].replace(':', '.')}", **recipe, **given}
    if "warmup_epochs" in recipe and "warmup_epochs" not in given:
        # A recipe is written for long runs; a short one must not be all warm-up.
        values["warmup_epochs"] = min(recipe["warmup_epochs"], values["epochs"] / 10)
    values.setdefault("precision", "bf16-mixed" if find_device(values["device"]) == "cuda" else "32-true")
    return _checked(TrainConfig(**values))


def check_not_given(field: str, options: Mapping[str, Any], given: Mapping[str, str]) -> None:
    """Raises UserError if `options`, those of `field`, hold what another option says: `given` has its name."""
    for option in options:
        if option in given:
            raise UserError(f"{field}.{option} is set by an option of its own: --{given[option]}")


def find_device(name: str) -> str:
    """What "auto", "cpu" or "cuda" means on this machine: "cuda" or "cpu".

    Raises:
        UserError: another name, or CUDA where torch finds none.
    """
    if name not in get_args(Device):
        raise UserError(f"device is {name!r}; {registry.nearest(str(name), list(get_args(Device)))}")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device is 'cuda' and torch finds no CUDA device; use --device cpu, or check `sslfast info`")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def write_config(config: TrainConfig) -> str:
    """Text of config.yaml: what repeats the run with `sslfast pretrain --config`, and the versions that made it."""
    versions = f"# sslfast {__version__}, torch {torch.__version__}, Python {platform.python_version()}\n"
    return versions + yaml.safe_dump(asdict(config), sort_keys=False)


def read_config(path: Path) -> TrainConfig:
    """The configuration in a run's config.yaml.

    Raises:
        UserError: the file is missing, or holds something else.
    """
    known = [field.name for field in fields(TrainConfig)]
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"{path.parent} is no run folder: it has no {path.name}; name a folder that pretrain made"
        ) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"cannot read {path}: {error}; restore the file or start the run again") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no options; restore the file or start the run again")
    for name in values:
        if name not in known:
            raise UserError(f"{path}: unknown option {name!r}; {registry.nearest(str(name), known)}")
    return TrainConfig(**values)


def _plain(value: Any) -> Any:
    """`value` as config.yaml keeps it: lists for tuples, text for paths."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def _check_same_run(given: dict[str, Any], saved: TrainConfig) -> None:
    before = asdict(saved)
    for name, value in given.items():
        if name not in FREE_ON_RESUME and value != before[name]:
            raise UserError(
                f"cannot resume: the run in {given.get('out', saved.out)} has {name} {before[name]!r}, not {value!r}; "
                f"leave --{name.replace('_', '-')} out to go on with it, or start another run with another --out"
            )


def _checked(config: TrainConfig) -> TrainConfig:
    for name, type_ in get_type_hints(TrainConfig).items():
        value = getattr(config, name)
        if fits(value, type_):
            continue
        if get_origin(type_) is Literal:
            raise UserError(f"{name} is {value!r}; {registry.nearest(str(value), list(get_args(type_)))}")
        raise UserError(f"{name} is {value!r}; it must be {described(type_)}{number_hint(value)}")
    if not config.out.strip():
        raise UserError("out is empty; name the run folder, for example runs/first")
    for field, given in GIVEN_OPTIONS.items():
        check_not_given(field, getattr(config, field), given)
    for name, (least, end) in BOUNDS.items():
        value = getattr(config, name)
        if not least <= value < end:
            raise UserError(f"{name} is {value}; it must be at least {least} and {_below(end)}")
    if config.warmup_epochs > config.epochs:
        raise UserError(
            f"warmup_epochs is {config.warmup_epochs} and the run has {config.epochs} epochs; lower it, or train longer"
        )
    if config.warmup_epochs and config.schedule == "plateau":
        raise UserError("warmup_epochs needs any schedule but plateau, which follows the loss from the first step")
    _check_milestones(config)
    if find_device(config.device) == "cpu" and config.precision == "16-mixed":
        raise UserError("precision 16-mixed needs CUDA; on a CPU use 32-true or bf16-mixed")
    return config


def _below(end: float) -> str:
    return "finite" if end == math.inf else f"less than {end}"


def _check_milestones(config: TrainConfig) -> None:
    numbers = config.milestones
    if not isinstance(numbers, list):  # config.yaml holds it as one
        raise UserError(f"milestones is {numbers!r}; it must be a list of numbers")
    if bool(numbers) != (config.schedule == "step"):
        raise UserError(
            f"milestones is {numbers} and schedule is {config.schedule!r}; the step schedule needs milestones, for "
            "example [120, 160], and the others have none"
        )
    if any(not low < high < config.epochs for low, high in pairwise([0, *numbers])):
        raise UserError(f"milestones is {numbers}; they must ascend, between 0 and the {config.epochs} epochs")
