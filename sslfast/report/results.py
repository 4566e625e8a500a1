"""results.json as a table, headline figures and curves over the number of labels."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from sslfast.errors import DataError
from sslfast.evaluate.results import labels_used, read_rows, setting
from sslfast.registry import PROTOCOLS
from sslfast.report import plots

ENCODERS = ("pretrained", "random", "scratch")
TITLES = {"knn": "kNN", "finetune": "Fine-tuning", "linear_conv": "Linear (1×1 conv)", "nonlinear": "Two hidden layers"}
STYLES: dict[str, dict[str, Any]] = {
    "pretrained": {"colour": 0, "marker": "o", "dash": "-"},
    "random": {"colour": None, "marker": "s", "dash": "--"},
    "scratch": {"colour": 6, "marker": "^", "dash": "-."},
}


@dataclass(frozen=True)
class Score:
    """Accuracies in percent on so many test images; None where the row does not say.

    Attributes:
        step: optimiser steps behind the weights that were measured; None for a baseline.
    """

    top1: float
    top5: float | None
    images: int | None
    step: int | None = None


@dataclass
class Line:
    """One line of the table: the scores of all encoders under the same protocol, labels and setting.

    Attributes:
        fraction: fraction of the labels used, in (0, 1].
        samples: samples per class, or None when a fraction was used.
        setting: what was measured with, in words, where that is not the default.
        scores: by encoder.
    """

    fraction: float
    samples: int | None
    setting: str = ""
    scores: dict[str, Score] = field(default_factory=dict)

    @property
    def labels(self) -> str:
        """The labels used, in words."""
        return labels_used(self.fraction, self.samples)

    def gain(self, baseline: str) -> float | None:
        """Points of top-1 by which the pretrained encoder is above `baseline`; None where one was not measured."""
        if "pretrained" in self.scores and baseline in self.scores:
            return self.scores["pretrained"].top1 - self.scores[baseline].top1
        return None


@dataclass
class Group:
    """The lines of one protocol, from few labels to many."""

    protocol: str
    lines: list[Line]

    @property
    def title(self) -> str:
        return protocol_title(self.protocol)


def protocol_title(protocol: str) -> str:
    """The protocol's name as it is written in text."""
    return TITLES.get(protocol, protocol.replace("_", " ").capitalize())


def read_results(path: Path) -> list[Group]:
    """The rows of results.json, grouped by protocol; of rows measured twice the later one counts.

    Raises:
        DataError: the file is no list of result rows.
    """
    groups: dict[str, dict[tuple[int | None, float, str], Line]] = {}
    rows = read_rows(path)
    try:
        for row in rows:
            samples = int(row["samples_per_class"]) if row.get("samples_per_class") else None
            fraction = float(row.get("label_fraction") or 1.0)
            top5, images, step = row.get("top5"), row.get("test_images"), row.get("pretraining_step")
            measured_with = setting(row)
            lines = groups.setdefault(str(row["protocol"]), {})
            line = lines.setdefault((samples, fraction, measured_with), Line(fraction, samples, measured_with))
            line.scores[str(row["encoder"])] = Score(
                top1=float(row["top1"]),
                top5=None if top5 is None else float(top5),
                images=None if images is None else int(images),
                step=None if step is None else int(step),
            )
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"cannot read {path}: {type(error).__name__}: {error}; remove the file and evaluate again"
        ) from error
    known = list(PROTOCOLS)
    order = sorted(groups, key=lambda name: known.index(name) if name in known else len(known))
    return [Group(name, sorted(groups[name].values(), key=_amount)) for name in order]


def encoders(groups: Iterable[Group]) -> list[str]:
    """The encoders that were measured: the pretrained one, the baselines, then any others."""
    found = {name: None for group in groups for line in group.lines for name in line.scores}
    return [name for name in ENCODERS if name in found] + [name for name in found if name not in ENCODERS]


def measured_on(groups: Iterable[Group]) -> str:
    """On how many images the scores were measured, in words."""
    scores = [score for group in groups for line in group.lines for score in line.scores.values()]
    counts = {score.images for score in scores if score.images is not None}
    if not counts:
        return "the test images"
    low, high = min(counts), max(counts)
    return f"{low:,} test images" if low == high else f"{low:,} to {high:,} test images"


def settings(groups: Iterable[Group]) -> list[str]:
    """What the lines were measured with, each once, the default ("") first."""
    return sorted({line.setting for group in groups for line in group.lines}, key=_unlike)


def headlines(groups: Iterable[Group]) -> list[tuple[str, Line]]:
    """Title and line of each protocol with the most labels, in the setting that is nearest to the default."""
    best = [
        (group.title, [line for line in group.lines if line.setting == group.lines[0].setting][-1])
        for group in groups
        if group.lines
    ]
    return [(title, line) for title, line in best if "pretrained" in line.scores]


def outdated(groups: Iterable[Group], step: int | None) -> list[int]:
    """The steps, other than `step`, of weights that were measured: they are no longer those of the run."""
    scores = [score for group in groups for line in group.lines for score in line.scores.values()]
    return sorted({score.step for score in scores if score.step is not None and step not in (None, score.step)})


def label_plots(groups: Sequence[Group]) -> list[tuple[str, Markup]]:
    """Title and plot of top-1 over the number of labels, where a protocol was run with more than one number."""
    result = []
    differ = len(settings(groups)) > 1
    for group in groups:
        for measured_with, x_label in itertools.product(settings([group]), ("labels used, %", "samples per class")):
            by_samples = x_label == "samples per class"
            alike = [line for line in group.lines if line.setting == measured_with]
            lines = [line for line in alike if (line.samples is not None) == by_samples]
            if len(lines) < 2:
                continue
            series = []
            for encoder in encoders([group]):
                points = [
                    (100 * line.fraction if line.samples is None else line.samples, line.scores[encoder].top1)
                    for line in lines
                    if encoder in line.scores
                ]
                x, y = np.array(points, dtype=np.float64).T if points else (np.empty(0), np.empty(0))
                series.append(plots.Series(x, y, **_style(encoder)))
            alt = f"{group.title}: top-1 accuracy over {x_label}, by encoder"
            svg = plots.lines(series, x_label=x_label, y_label="top-1, %", log_x=True, alt=alt)
            title = f"{group.title}, {x_label.split(',')[0]}"
            result.append((f"{title}, {measured_with}" if measured_with and differ else title, svg))
    return result


def stroke(encoder: str) -> dict[str, str]:
    """How an encoder's line looks in the page's own legend."""
    style = _style(encoder)
    return {
        "variable": "other" if style["colour"] is None else f"series-{style['colour']}",
        "marker": style["marker"],
        "dashes": plots.DASHES[style["dash"]],
    }


def _style(encoder: str) -> dict[str, Any]:
    return STYLES.get(encoder, {"colour": 4, "marker": "s", "dash": ":"})


def _amount(line: Line) -> tuple[int, str, bool, int, float]:
    """Sorts lines by setting, the default first, then by their labels: samples per class first, then fractions."""
    return *_unlike(line.setting), line.samples is None, line.samples or 0, line.fraction


def _unlike(measured_with: str) -> tuple[int, str]:
    """Sorts settings by in how much they differ from the default."""
    return len(measured_with.split(", ")) if measured_with else 0, measured_with
