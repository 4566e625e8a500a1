"""write_report: one self-contained HTML page from a run folder."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from sslfast.errors import TrainingError, UserError
from sslfast.report import encoded, images, metrics, neighbours, plots, projection, results
from sslfast.train import Run, TrainConfig, load_run

# Petroff's ten colours, chosen by measured preference and for colour-vision deficiencies (arXiv 2107.02270); on a dark
# page the dark ones are lighter.
PALETTE_LIGHT = "#3f90da #ffa90e #bd1f01 #94a4a2 #832db6 #a96b59 #e76300 #b9ac70 #717581 #92dadd".split()
PALETTE_DARK = "#5aa5ea #ffb733 #f0533a #a9b8b6 #b36be0 #c98d7b #ff8a3c #cfc388 #8f95a3 #9be4e7".split()
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
        run: folder written by `sslfast.train.pretrain`.

    Returns:
        Path of the page.

    Raises:
        UserError: the folder is no run.
        TrainingError: the page cannot be written.
    """
    folder = Path(run)
    loaded = load_run(folder)
    page = _environment().get_template("template.html.jinja").render(_content(folder, loaded))
    target = folder / "report.html"
    unfinished = folder / ".report.html.part"
    try:
        unfinished.write_text(page, encoding="utf-8")
        os.replace(unfinished, target)  # readers see the old page or the new one, never half of one
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise TrainingError(f"cannot write {target}: {error.strerror}; free some space or make it writable") from error
    return target


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("sslfast.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=False
    )


def _content(folder: Path, run: Run) -> dict[str, Any]:
    config = run.config
    table = _section(results.read_results, folder / "results.json")
    label_plots = _section(results.label_plots, table.content or [])
    columns = _section(metrics.read_metrics, folder / "metrics.csv")
    curves = Section(metrics.curves(columns.content)) if columns.content else Section(reason=columns.reason)
    test = _section(encoded.encode, run)
    plane: Section[projection.Projection] = Section(reason=test.reason)
    rows: Section[list[neighbours.Row]] = Section(reason=test.reason)
    if test.content is not None:
        known = test.content
        plane = _section(projection.project, known.features, known.labels, known.classes)
        rows = _section(neighbours.nearest_rows, known.features, known.images, known.labels, known.classes)
    right, counted = neighbours.share_right(rows.content or [])
    where = shlex.quote(str(folder))
    encoders = results.encoders(table.content or [])
    return {
        "config": config,
        "config_text": (folder / "config.yaml").read_text(encoding="utf-8"),
        "facts": _facts(config),
        "tiles": _tiles(table.content or [], columns.content or {}),
        "results": table,
        "encoders": encoders,
        "legend": [(name, results.stroke(name)) for name in encoders],
        "label_plots": label_plots,
        "curves": curves,
        "pictures": _section(images.read_pictures, folder / "pictures"),
        "projection": plane,
        "neighbours": rows,
        "neighbours_columns": neighbours.NEIGHBOURS + 1,
        "right": right,
        "known": counted,
        "small_images": test.content is not None and int(test.content.images.sizes.max()) <= SMALL_IMAGE,
        "machine": list(machine().items()),
        "written": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "evaluate_command": f"sslfast evaluate {where}",
        "pretrain_command": f"sslfast pretrain --config {shlex.quote(str(folder / 'config.yaml'))} --resume",
        "repeat_command": f"sslfast pretrain --config {shlex.quote(str(folder / 'config.yaml'))} --out NEW_FOLDER",
        "palette_light": PALETTE_LIGHT,
        "palette_dark": PALETTE_DARK,
        "series": plots.SERIES,
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
        f"{config.epochs} epochs",
        f"batches of {config.batch_size}",
        f"seed {config.seed}",
    ]


def _tiles(table: list[results.Group], columns: dict[str, Any]) -> list[dict[str, Any]]:
    """The figures a reader looks for first."""
    tiles = []
    for title, line in results.headlines(table)[:2]:
        random = line.scores.get("random")
        note = ""
        if random is not None and line.gain is not None:
            relation = "above" if line.gain >= 0 else "below"
            note = f"{abs(line.gain):.1f} points {relation} the random encoder ({random.top1:.1f} %)"
        tiles.append(
            {"title": f"{title} top-1", "figure": f"{line.scores['pretrained'].top1:.1f} %", "note": note, "main": True}
        )
    speed = columns.get("images_per_second")
    if speed is not None and np.isfinite(speed).any():
        figure = metrics.number(float(np.nanmedian(speed)))
        tiles.append({"title": "Images per second", "figure": figure, "note": "in training, median", "main": False})
    return tiles
