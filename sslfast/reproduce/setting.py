"""How the numbers of a reproduction were measured, and in what that differs from the published experiment."""

from __future__ import annotations

import inspect
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sslfast import registry
from sslfast.reproduce.data import Data, data_name
from sslfast.reproduce.recipe import SIZES, Recipe
from sslfast.train import TrainConfig
from sslfast.train.config import resolve

SCALED_DOWN = "Scaled down"
OTHER_SIZES = "Other sizes than published"
OTHER_DATA = "Other data than published"


@dataclass(frozen=True)
class Sizes:
    """How much is computed; None means as published.

    Attributes:
        limit: training images, for pretraining and for evaluation.
        limit_test: test images.
        epochs: of pretraining.
        evaluation_epochs: of the protocols that train with mini-batches.
    """

    limit: int | None = None
    limit_test: int | None = None
    epochs: int | None = None
    evaluation_epochs: int | None = None


@dataclass(frozen=True)
class Setting:
    """How the numbers were measured.

    Attributes:
        command: the command line that does it again.
        deviations: a kind of difference from the published experiment -> what differs, in words; of sizes and data.
        facts: (name, value) of what the numbers depend on.
    """

    command: str
    deviations: Mapping[str, Sequence[str]]
    facts: Sequence[tuple[str, str]]


def command_line(command: str, function: Callable[..., Any], values: Mapping[str, Any]) -> str:
    """The command line of a call.

    Args:
        command: of `sslfast`.
        function: what the command calls; its parameters without a default go by position.
        values: of all its parameters, by name.
    """
    words = ["sslfast", command]
    for name, parameter in inspect.signature(function).parameters.items():
        value, option = values[name], f"--{name.replace('_', '-')}"
        if parameter.default is parameter.empty:
            words.append(str(value))
        elif isinstance(value, bool):
            words += [option] if value else []
        elif value != parameter.default:
            words += [option, json.dumps(value) if isinstance(value, Mapping) else str(value)]
    return shlex.join(words)


def facts(configs: Mapping[str, TrainConfig], data: Mapping[str, Data]) -> list[tuple[str, str]]:
    """What all numbers depend on, in words: the images of the runs, and the seed.

    Args:
        configs: of every run, resolved.
        data: of every run.
    """
    texts: dict[str, list[str]] = {}
    for run, images in data.items():
        place = f" in {configs[run].root}" if configs[run].root else ""
        text = (
            f"{data_name(configs[run])}{place}; {images.train:,} of {images.all_train:,} training images, "
            f"{images.test:,} of {images.all_test:,} test images, {images.classes} classes"
        )
        texts.setdefault(text, []).append(run)
    names = ["data" if len(texts) == 1 else f"data of {', '.join(runs)}" for runs in texts.values()]
    seeds = {config.seed for config in configs.values()}
    return [*zip(names, texts, strict=True), ("seed", ", ".join(map(str, sorted(seeds))))]


def deviations(
    recipe: Recipe, sizes: Sizes, configs: Mapping[str, TrainConfig], data: Mapping[str, Data]
) -> dict[str, list[str]]:
    """What differs from the recipe, in words, by its kind; nothing for a full run on its data.

    Args:
        recipe: has the published sizes.
        sizes: that were asked for.
        configs: of every run, resolved.
        data: of every run.
    """
    published = {run: resolve(TrainConfig(**{**recipe.pretrain, **own})) for run, own in recipe.runs.items()}

    def of_runs(name: str) -> list[tuple[Any, Any]]:
        return [(getattr(config, name), getattr(published[run], name)) for run, config in configs.items()]

    # What is measured with and what was published, for all that a size applies to.
    pairs: dict[str, list[tuple[Any, Any]]] = {}
    if sizes.limit:
        own = {run: published[run].limit or images.all_train for run, images in data.items()}
        used = {run: min(sizes.limit, images.all_train) for run, images in data.items()}
        pairs[f"the first {sizes.limit:,} training images"] = [(used[run], own[run]) for run in data]
    if sizes.limit_test:
        there = [images.all_test for images in data.values()]
        pairs[f"the first {sizes.limit_test:,} test images"] = [(min(sizes.limit_test, all_), all_) for all_ in there]
    if sizes.epochs:
        pairs[f"epochs of pretraining: {sizes.epochs}"] = of_runs("epochs")
    if sizes.evaluation_epochs:
        trained = [how for how in recipe.evaluations.values() if takes_epochs(how.protocol)]
        epochs = [(sizes.evaluation_epochs, how.options.get("epochs")) for how in trained]
        pairs[f"epochs of evaluation: {sizes.evaluation_epochs}"] = epochs
    for name, value in recipe.scaled_down.items():
        if name not in SIZES:
            pairs[f"{name.replace('_', ' ')} {value}"] = of_runs(name)
    differing: dict[str, list[str]] = {SCALED_DOWN: [], OTHER_SIZES: [], OTHER_DATA: []}
    for text, values in pairs.items():
        if any(_is_smaller(measured, own) for measured, own in values):
            differing[SCALED_DOWN].append(text)
        elif any(measured != own for measured, own in values):
            differing[OTHER_SIZES].append(text)
    for run, config in configs.items():
        name, classes = data_name(config), data[run].classes
        if recipe.classes not in (None, classes):
            name += f" of {classes} classes"
        if name not in (data_name(published[run]), *differing[OTHER_DATA]):
            differing[OTHER_DATA].append(name)
    return {kind: texts for kind, texts in differing.items() if texts}


def takes_epochs(protocol: str) -> bool:
    """Whether a protocol trains with mini-batches, so that its epochs can be set."""
    return "epochs" in inspect.signature(registry.resolve("protocols", protocol)).parameters


def _is_smaller(measured: Any, published: Any) -> bool:
    numbers = all(isinstance(value, (int, float)) for value in (measured, published))
    return numbers and measured < published
