"""evaluate: measures the backbone of a run by several protocols, label budgets and baselines."""

from __future__ import annotations

import inspect
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor, nn

from sslfast import registry
from sslfast.data import ImageBatch, ImageFiles
from sslfast.data.dali import decodable
from sslfast.errors import TrainingError, UserError
from sslfast.evaluate.features import Encoder
from sslfast.evaluate.results import Row, Scores, merge_rows, read_rows
from sslfast.evaluate.subsets import check_budget, label_subset, labelled
from sslfast.evaluate.training import seeded
from sslfast.models import build_backbone
from sslfast.options import check_types
from sslfast.train import Run, TrainConfig, load_run
from sslfast.train.config import DEFAULTS, Device, check_not_given, find_device
from sslfast.train.run import build_method, find_source

RESULTS_FILE = "results.json"
COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
# What evaluate passes to every source, and the option that says it.
GIVEN_OPTIONS = {
    "name": "data",
    "root": "root",
    "split": "train-split and --test-split",
    "limit": "limit-train and --limit-test",
    "on_error": "on-error of pretrain",
}
GIVEN = ("encoder", "subset")  # what evaluate passes to every protocol; its other parameters are options


def evaluate(
    run: Path,
    protocols: Sequence[str] = ("knn", "linear"),
    label_fractions: Sequence[float] = (1.0,),
    samples_per_class: Sequence[int] = (),
    baselines: bool = True,
    baseline_backbone: str = "resnet18",
    epochs: int | None = None,
    protocol_options: dict[str, dict[str, Any]] | None = None,
    data: str | None = None,
    root: str | None = None,
    data_options: dict[str, Any] | None = None,
    train_split: str = "train",
    test_split: str = "test",
    limit_train: int = 0,
    limit_test: int = 0,
    device: Device = "auto",
    seed: int = 0,
) -> list[Row]:
    """Measures how well the backbone of a run classifies, and writes the rows to the run's results.json.

    Each protocol is run with each label budget (the fractions, then the samples per class) on the pretrained encoder
    and on its baseline: the same encoder before training, or, for a protocol that trains the whole network,
    `baseline_backbone` trained from scratch on the same labels. A row replaces the earlier one of the same protocol,
    encoder, labels and setting (data, splits, limits, options, seed); it is written as soon as it is measured. The same
    seed gives the same rows on the same machine.

    Image files of a run with `loader: dali` are decoded batch by batch here, too; other data is read into memory.

    Args:
        run: folder that `sslfast pretrain` made.
        protocols: names of `sslfast list protocols`, or your own as "module:function", called with
            (encoder: Encoder, subset: (n,) int64 positions of the training images it may use, **options) -> Scores.
        label_fractions: parts of every class's labels to use, each in (0, 1].
        samples_per_class: numbers of labels of every class to use.
        baselines: measure the baselines, too.
        baseline_backbone: network that is trained from scratch.
        epochs: passes over the labels, for the protocols that train with mini-batches; absent, each has its own.
        protocol_options: options of each protocol by its name, such as {"knn": {"neighbours": 20}}; on the command line
            `--protocol-options.knn '{"neighbours": 20}'`.
        data: another data set than the run's, as in `pretrain`; its root and options are then taken from here only.
        root: folder of the data, when it is not where it was in training.
        data_options: options of the source, instead of the run's.
        train_split: part of the data set to learn from.
        test_split: part of the data set to measure on.
        limit_train: learn from the first so many images only, which hold all classes; 0, all.
        limit_test: measure on the first so many images only; 0, all.
        device: auto, cpu or cuda.
        seed: of the label subsets and of what the protocols draw.

    Returns:
        One row for each protocol, labels and encoder, in that order: `protocol`, `encoder` ("pretrained", "random" or
        "scratch"), `label_fraction` or else `samples_per_class` (the other is None), `top1` and `top5` in percent,
        `seconds` (with the features, where the row is the first to need them), `train_images`, `test_images`, `seed`,
        `setting` (by name, the data where it is not the run's, and the options above and of the protocol where they are
        not the defaults), `pretraining_step` (optimiser steps behind the weights; None for a baseline), and what the
        protocol adds.

    Raises:
        UserError: an unknown name or option, or a value outside its range; data without labels or with one class only.
        DataError: the data, or results.json, cannot be read.
        TrainingError: a network diverged, or results.json cannot be written.
    """
    scratch = _not_default(evaluate, {"baseline_backbone": baseline_backbone}) if baselines else {}
    jobs = _jobs(protocols, epochs, protocol_options or {}, seed, scratch)
    if not label_fractions and not samples_per_class:
        raise UserError("no labels to evaluate with; give label fractions (1.0 for all labels) or samples per class")
    for fraction in label_fractions:
        check_budget(fraction, None)
    for samples in samples_per_class:
        check_budget(None, samples)
    check_not_given("data_options", data_options or {}, GIVEN_OPTIONS)
    torch_device = torch.device(find_device(device))
    saved = load_run(Path(run))
    results = _results_file(Path(run))
    if train_split == test_split:
        raise UserError(f"both splits are {train_split!r}: measure on images that the classifier has not learned from")
    limits = {train_split: limit_train, test_split: limit_test}
    config = _with_data(saved.config, data, root, data_options)
    splits = {
        "train_split": train_split,
        "test_split": test_split,
        "limit_train": limit_train,
        "limit_test": limit_test,
    }
    setting = _other_data(config, saved.config) | _not_default(evaluate, splits)
    step = saved.step()
    (train, test), classes = labelled_splits(config, limits)
    budgets = _budgets(train, label_fractions, samples_per_class, seed)
    # Features are extracted for the images that some budget uses, and no others.
    used = torch.cat([budget.subset for budget in budgets]).unique()
    task = {"train": train.select(used), "test": test, "classes": classes, "device": torch_device}
    encoders = _Encoders(saved, task, baseline_backbone, seed)
    planned = [
        (job, budget, name)
        for job in jobs
        for budget in budgets
        for name in (("pretrained", baseline(job.function)) if baselines else ("pretrained",))
    ]
    rows = []
    with Progress(*COLUMNS, transient=True, disable=not sys.stdout.isatty()) as progress:
        bar = progress.add_task("", total=len(planned))
        for job, budget, name in planned:
            progress.update(bar, description=f"{job.name}, {name} encoder, {len(budget.subset)} labels")
            subset = torch.searchsorted(used, budget.subset).to(torch_device)
            begin = time.perf_counter()
            scores = job.function(getattr(encoders, name), subset, **job.options)
            if not isinstance(scores, Scores):
                raise UserError(f"protocol {job.name!r} gave {scores!r:.60}; {registry.NEEDED['protocols']}")
            row = {
                "protocol": job.name,
                "encoder": name,
                "label_fraction": budget.fraction,
                "samples_per_class": budget.samples,
                "top1": scores.top1,
                "top5": scores.top5,
                "seconds": time.perf_counter() - begin,
                "train_images": len(subset),
                "test_images": len(test),
                "seed": seed,
                # As it is read again: tuples are lists, and what JSON does not know is text.
                "setting": json.loads(json.dumps(setting | job.setting, default=str)),
                "pretraining_step": step if name == "pretrained" else None,
                **scores.details,
            }
            merge_rows(results, [row])
            rows.append(row)
            progress.advance(bar)
    return rows


@dataclass(frozen=True)
class _Job:
    """One protocol with its options, and what its rows say of them: those that are not the defaults."""

    name: str
    function: Callable[..., Scores]
    options: dict[str, Any]
    setting: dict[str, Any]


@dataclass(frozen=True)
class _Budget:
    """The labels that a protocol may use: a fraction or a number of samples per class, and their positions."""

    fraction: float | None
    samples: int | None
    subset: Tensor


def protocol_with(name: str, options: Mapping[str, Any]) -> Callable[..., Scores]:
    """The function of a protocol, which takes these options.

    Raises:
        UserError: an unknown protocol or option, or an option's value of a wrong type.
    """
    function = registry.resolve("protocols", name)
    valid = [option for option in inspect.signature(function).parameters if option not in GIVEN]
    for option in options:
        if option not in valid:
            raise UserError(f"protocol {name!r} has no option {option!r}; {registry.nearest(option, valid)}")
    check_types(function, options, f"protocol {name!r}")
    return function


def baseline(protocol: Callable[..., Scores]) -> str:
    """The encoder that a protocol compares the pretrained one with: "random" or "scratch"."""
    return getattr(protocol, "baseline", "random")


def _results_file(run: Path) -> Path:
    """results.json of a run; what is wrong with it is found before anything is measured.

    Raises:
        DataError: it is no list of rows.
        TrainingError: the folder cannot be written.
    """
    path = run / RESULTS_FILE
    read_rows(path)
    if not os.access(run, os.W_OK):
        raise TrainingError(f"{run} cannot be written, and its results belong there; copy the run, or make it writable")
    return path


def _with_data(
    config: TrainConfig, data: str | None, root: str | None, data_options: dict[str, Any] | None
) -> TrainConfig:
    """A run's configuration with what `evaluate` was given of the data; another data set takes nothing of the run's."""
    if data is None:
        root = config.root if root is None else root
        data_options = config.data_options if data_options is None else data_options
    return replace(config, data=data or config.data, root=root, data_options=data_options or {})


def _other_data(config: TrainConfig, own: TrainConfig) -> dict[str, Any]:
    """What names the data of `config`, where it is not that of the run."""
    known = vars(own) if config.data == own.data else DEFAULTS
    names = ("data", "root", "data_options")
    return {name: value for name in names if (value := getattr(config, name)) != known.get(name)}


def _not_default(function: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of those parameters of `function` that are not at their defaults."""
    parameters = inspect.signature(function).parameters
    return {name: value for name, value in values.items() if value != parameters[name].default}


def _jobs(
    protocols: Sequence[str],
    epochs: int | None,
    options: Mapping[str, Mapping[str, Any]],
    seed: int,
    scratch: dict[str, Any],
) -> list[_Job]:
    if not protocols:
        raise UserError(f"no protocol to evaluate; choose from {', '.join(registry.PROTOCOLS)}")
    for name in options:
        if name not in protocols:
            raise UserError(
                f"options for protocol {name!r}, which is not evaluated; {registry.nearest(name, list(protocols))}"
            )
    jobs = []
    for name in dict.fromkeys(protocols):
        own = dict(options.get(name, {}))
        function = protocol_with(name, own)
        valid = inspect.signature(function).parameters
        general = {"seed": seed} if epochs is None else {"seed": seed, "epochs": epochs}
        own = {key: value for key, value in general.items() if key in valid} | own
        registry.check_call("protocols", name, function, own)
        special = {key: value for key, value in own.items() if (key, value) != ("seed", seed)}  # a row has its seed
        setting = _not_default(function, special) | (scratch if baseline(function) == "scratch" else {})
        jobs.append(_Job(name, function, own, setting))
    if epochs is not None and not any("epochs" in job.options for job in jobs):
        raise UserError(f"epochs = {epochs}, but {' and '.join(protocols)} train no epochs; leave it out")
    return jobs


def _budgets(
    train: ImageBatch | ImageFiles, fractions: Sequence[float], samples: Sequence[int], seed: int
) -> list[_Budget]:
    assert train.label is not None
    return [
        *(_Budget(fraction, None, label_subset(train.label, fraction=fraction, seed=seed)) for fraction in fractions),
        *(_Budget(None, count, label_subset(train.label, samples_per_class=count, seed=seed)) for count in samples),
    ]


def labelled_splits(
    config: TrainConfig, limits: Mapping[str, int], read: bool = True
) -> tuple[list[ImageBatch | ImageFiles], int]:
    """The labelled images of each split in `limits`, and the number of classes.

    Args:
        config: names the data.
        limits: split -> largest number of images; 0, all.
        read: read the images as protocols take them: into memory, or, for `loader: dali`, to files that can all be
            decoded; False leaves image files unread, as they are found.

    Raises:
        UserError: data without labels or with one class only; splits of other classes.
        DataError: the data cannot be read.
    """
    images: list[ImageBatch | ImageFiles] = []
    named = []
    for split, limit in limits.items():
        source = find_source(config, split, limit)
        if isinstance(source, ImageFiles) and (config.loader == "dali" or not read):
            images.append(labelled(decodable(source) if read else source, split))
        else:
            images.append(labelled(source.read(), split))
        named.append(source.classes)
    if named[0] != named[1]:
        only = sorted(set(named[0] or []) ^ set(named[1] or []))
        raise UserError(
            f"the splits {' and '.join(limits)} have other classes ({', '.join(only[:5]) or 'in another order'}); "
            "give both the same, so that their labels mean the same"
        )
    return images, 1 + max(int(batch.label.max()) for batch in images if batch.label is not None)


class _Encoders:
    """What the rows compare; each encoder is built when a row first asks for it."""

    def __init__(self, saved: Run, task: dict[str, Any], scratch: str, seed: int) -> None:
        self._saved, self._task, self._scratch, self._seed = saved, task, scratch, seed
        self._method = saved.method()
        channels = task["train"].channels
        if channels != self._method.backbone.in_channels:
            raise UserError(
                f"the images have {channels} channels and the backbone takes {self._method.backbone.in_channels}; "
                "evaluate on images like those of the training"
            )

    @cached_property
    def pretrained(self) -> Encoder:
        return self._encoder(self._method.backbone)

    @cached_property
    def random(self) -> Encoder:
        """The encoder as it was before training: the run's method, built again from the run's seed."""
        in_channels = self._method.backbone.in_channels
        return self._encoder(build_method(self._saved.config, in_channels).backbone)

    @cached_property
    def scratch(self) -> Encoder:
        backbone = self._method.backbone
        with seeded(self._seed):
            return self._encoder(build_backbone(self._scratch, backbone.image_size, backbone.in_channels))

    def _encoder(self, backbone: nn.Module) -> Encoder:
        return Encoder(backbone, self._method.evaluation_view, **self._task)
