"""Quickstart: the whole job on the embedded data set, in minutes on two CPU cores."""

from __future__ import annotations

from pathlib import Path

from sslfast.data.sources import check_number
from sslfast.evaluate import evaluate
from sslfast.evaluate.table import print_rows
from sslfast.report import write_report
from sslfast.train import TrainConfig, pretrain

BATCH_SIZE = 64  # small batches take many steps in little time


def quickstart(out: Path = Path("runs/quickstart"), images: int = 5000, epochs: int = 8, seed: int = 0) -> Path:
    """Pretrains SimCLR on rendered scenes, evaluates it beside a random encoder, and writes the report.

    Nothing is downloaded. The classes are used in the evaluation only.

    Args:
        out: the run folder; what it holds of an earlier run is replaced.
        images: number of scenes to train on, 64 or more.
        epochs: passes over them.
        seed: of the weights, the order of the images and their views.

    Returns:
        The report, `report.html` in the run folder.

    Raises:
        UserError: a number out of its range.
        TrainingError: the folder cannot be written.
    """
    check_number("images", images, BATCH_SIZE)
    config = TrainConfig(
        method="simclr",
        # A small crop of these scenes often misses their one object.
        method_options={"temperature": 0.1, "smallest_crop": 0.3},
        data="shapes",
        backbone="resnet10_narrow",
        limit=images,
        out=str(out),
        epochs=epochs,
        batch_size=BATCH_SIZE,
        optimizer="sgd",
        learning_rate=0.06,
        weight_decay=5e-4,
        warmup_epochs=1,
        seed=seed,
    )
    run = pretrain(config, overwrite=True)
    print_rows(evaluate(run, protocols=("knn", "linear"), limit_train=images, limit_test=2000, seed=seed))
    return write_report(run)
