"""write_report: one self-contained HTML page from a run folder."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from sslfast import info
from sslfast.errors import UserError
from sslfast.evaluate.evaluation import RESULTS_FILE
from sslfast.report import encoded, images, metrics, neighbours, projection, results
from sslfast.report.page import write_page
from sslfast.train import Run, TrainConfig, load_run
from sslfast.train.config import CONFIG_FILE
from sslfast.train.log import METRICS_FILE
from sslfast.train.run import PICTURES_FOLDER

SMALL_IMAGE = 64  # images up to this side are enlarged with visible pixels rather than blurred

T = TypeVar("T")


@dataclass(frozen=True)
class Section(Generic[T]):
    """One part of the page: what it shows, or the reason why it cannot."""

    content: T | None = None
    reason: str = ""


def write_report(run: Path) -> Path:
    """Writes `report.html` into a run folder: one page without any other file or network.

    A part whose files are missing is left out, with the command that produces them; a part whose files are damaged
    or whose data have moved is left out with the reason.

    Args:
        run: folder that `sslfast pretrain` made.

    Returns:
        Path of the page.

    Raises:
        UserError: the folder is no run.
        TrainingError: the page cannot be written.
    """
    folder = Path(run)
    loaded = load_run(folder)
    return write_page(folder / "report.html", "sslfast.report", "report.html.jinja", _content(folder, loaded))


def _content(folder: Path, run: Run) -> dict[str, Any]:
    config, config_text = run.config, (folder / CONFIG_FILE).read_text(encoding="utf-8")
    table = _section(results.read_results, folder / RESULTS_FILE)
    label_plots = _section(results.label_plots, table.content or [])
    step = _section(run.step).content
    columns = _section(metrics.read_metrics, folder / METRICS_FILE)
    curves = Section(metrics.curves(columns.content)) if columns.content else Section(reason=columns.reason)
    encoding = _section(encoded.encode, run)
    plane: Section[projection.Projection] = Section(reason=encoding.reason)
    rows: Section[list[neighbours.Row]] = Section(reason=encoding.reason)
    if encoding.content is not None:
        known = encoding.content
        plane = _section(projection.project, known.features, known.labels, known.classes)
        rows = _section(neighbours.nearest_rows, known.features, known.images, known.labels, known.classes)
    right, counted = neighbours.share_right(rows.content or [])
    where = shlex.quote(str(folder))
    encoders = results.encoders(table.content or [])
    return {
        "config": config,
        "config_text": config_text,
        "facts": _facts(config),
        "tiles": _tiles(table.content or [], columns.content or {}, step),
        "results": table,
        "settings": results.settings(table.content or []),
        "step": step,
        "outdated": results.outdated(table.content or [], step),
        "test_images": results.measured_on(table.content or []),
        "encoders": encoders,
        "baselines": [name for name in encoders if name != "pretrained"] if "pretrained" in encoders else [],
        "legend": [(name, results.stroke(name)) for name in encoders],
        "label_plots": label_plots,
        "curves": curves,
        "shares": metrics.time_shares(columns.content or {}),
        "pictures": _section(images.read_pictures, folder / PICTURES_FOLDER),
        "split": encoding.content.split if encoding.content else "",
        "projection": plane,
        "neighbours": rows,
        "neighbours_columns": neighbours.NEIGHBOURS + 1,
        "right": right,
        "known": counted,
        "small_images": encoding.content is not None and encoding.content.longest_side <= SMALL_IMAGE,
        "machine": _machine(config_text),
        "evaluate_command": f"sslfast evaluate {where}",
        "pretrain_command": f"sslfast pretrain --resume --out {where}",
        "repeat_command": f"sslfast pretrain --config {shlex.quote(str(folder / CONFIG_FILE))} --out NEW_FOLDER",
    }


def _section(build: Callable[..., T], *arguments: Any) -> Section[T]:
    """What `build` makes, nothing when its file does not exist, or the reason why it fails."""
    if arguments and isinstance(arguments[0], Path) and not arguments[0].exists():
        return Section()
    try:
        return Section(build(*arguments))
    except (UserError, OSError) as error:
        return Section(reason=str(error))


def _facts(config: TrainConfig) -> list[str]:
    return [
        str(config.backbone),
        f"{config.image_size} px",
        f"{config.epochs} epoch{'s' * (config.epochs != 1)}",
        f"batches of {config.batch_size}",
        f"seed {config.seed}",
    ]


def _machine(config_text: str) -> list[tuple[str, str]]:
    """Versions and machine now, and the versions that trained, with which config.yaml opens."""
    first = config_text.partition("\n")[0]
    trained = [("trained with", first.removeprefix("#").strip())] if first.startswith("#") else []
    return trained + list(info.info().items())


def _tiles(table: list[results.Group], columns: dict[str, Any], step: int | None) -> list[dict[str, Any]]:
    """The figures a reader looks for first."""
    tiles = []
    differ = len(results.settings(table)) > 1
    for title, line in results.headlines(table)[:2]:
        notes = []
        for baseline, name in (("scratch", "training from scratch"), ("random", "the random encoder")):
            gain = line.gain(baseline)
            if gain is not None:
                relation = "above" if gain >= 0 else "below"
                notes = [f"{abs(gain):.1f} points {relation} {name} ({line.scores[baseline].top1:.1f} %)"]
        if differ and line.setting:
            notes.append(line.setting)
        if results.outdated([results.Group(title, [line])], step):
            notes.append(f"measured at step {line.scores['pretrained'].step}, the run is at step {step}")
        note = "; ".join(notes)
        tiles.append(
            {"title": f"{title} top-1", "figure": f"{line.scores['pretrained'].top1:.1f} %", "note": note, "main": True}
        )
    speed = columns.get("images_per_second")
    if speed is not None and np.isfinite(speed).any():
        figure = metrics.number(float(np.nanmedian(speed)))
        tiles.append({"title": "Images per second", "figure": figure, "note": "in training, median", "main": False})
    return tiles
