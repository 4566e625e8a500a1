"""The images of a reproduction: found, counted and checked before anything is trained on them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sslfast.data import ImageFiles
from sslfast.errors import UserError
from sslfast.evaluate.evaluation import labelled_splits
from sslfast.train import TrainConfig
from sslfast.train.run import find_source


@dataclass(frozen=True)
class Data:
    """What a run learns from and is measured on.

    Attributes:
        train, test: images that are used.
        all_train, all_test: images that there are.
        classes: number of classes.
    """

    train: int
    test: int
    all_train: int
    all_test: int
    classes: int


def data_name(config: TrainConfig) -> str:
    """The data of a resolved configuration in words: its name and options."""
    options = ", ".join(f"{name} {value}" for name, value in config.data_options.items())
    return f"{config.data} with {options}" if options else config.data


def find_data(config: TrainConfig, limit: int, limit_test: int, samples_per_class: int) -> Data:
    """Counts the images of a run and its evaluations, which must suffice for both.

    Args:
        config: of the run, resolved.
        limit: training images of the evaluations; 0, all.
        limit_test: test images; 0, all.
        samples_per_class: the most labels of a class that an evaluation uses; 0 where none counts them.

    Raises:
        UserError: fewer images than a batch, or than labels of a class; no labels, or one class only.
        DataError: the data cannot be read.
    """
    count = {split: len(find_source(config, split)) for split in sorted({"train", "test", config.split})}
    batch = config.batch_size
    if count[config.split] < batch:
        raise UserError(f"{data_name(config)} has {count[config.split]} images, and a batch {batch}; use more images")
    if 0 < config.limit < batch:
        raise UserError(_too_low(config, samples_per_class))
    (train, test), classes = labelled_splits(config, {"train": limit, "test": limit_test}, read=False)
    assert train.label is not None
    if _sufficient(train.label, samples_per_class) is None:
        raise UserError(_too_low(config, samples_per_class))
    return Data(len(train), len(test), count["train"], count["test"], classes)


def _too_low(config: TrainConfig, samples: int) -> str:
    """Which images are too few, and the lowest limit that suffices."""
    source = find_source(config, "train")
    label = source.label if isinstance(source, ImageFiles) else source.read().label
    lowest = None if label is None else _sufficient(label, samples)
    if lowest is None:
        return (
            f"a table uses {samples} labels of every class, and {data_name(config)} has fewer of some; use data with "
            "more, or a recipe file of your own with lower samples_per_class"
        )
    labels = f" and {samples} labels of every class" if samples else ""
    return (
        f"too few training images for batches of {config.batch_size}{labels}; "
        f"give --limit {max(lowest, config.batch_size)} or more"
    )


def _sufficient(label: Tensor, samples: int) -> int | None:
    """How many of the first images hold so many of every class; None where all do not."""
    last = 0
    for value in label[label >= 0].unique():
        places = (label == value).nonzero()[:, 0]
        if len(places) < samples:
            return None
        last = max(last, int(places[max(samples, 1) - 1]) + 1)
    return last
