"""reproduce: runs a recipe's pretraining and evaluations, and writes published and measured numbers side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from sslfast.errors import DataError, TrainingError, UserError
from sslfast.evaluate import evaluate
from sslfast.evaluate.results import Row
from sslfast.reproduce.data import Data, find_data
from sslfast.reproduce.page import print_tables, write_tables
from sslfast.reproduce.recipe import Cell, Recipe, Table, find_recipe, read_recipe
from sslfast.reproduce.setting import Setting, Sizes, command_line, deviations, facts, takes_epochs
from sslfast.train import TrainConfig, pretrain
from sslfast.train.checkpoint import write_atomically
from sslfast.train.config import CONFIG_FILE, Device, read_config, resolve
from sslfast.train.run import BACKBONE_FILE
from sslfast.train.stop import Interrupted

RESULTS_FILE = "results.json"


def reproduce(
    name: str,
    data: str | None = None,
    root: str | None = None,
    data_options: dict[str, Any] | None = None,
    out: Path | None = None,
    scaled_down: bool = False,
    limit: int | None = None,
    limit_test: int | None = None,
    epochs: int | None = None,
    evaluation_epochs: int | None = None,
    device: Device = "auto",
    seed: int = 0,
) -> Path:
    """Pretrains and evaluates what a published table compares, and writes a page with both numbers in every cell.

    A full run repeats the published sizes and needs a GPU. The sizes can be set; the page says where they, or the data,
    are others than published. The recipe, and whether there are images enough for every batch and every number of
    labels, is checked before the first run. Started again with the same sizes it goes on where it stopped: finished
    runs and evaluations are kept.

    Args:
        name: one of `sslfast list reproductions`, or a recipe file of your own that ends in .yaml.
        data: data set instead of the recipe's, as in `pretrain`.
        root: folder of the data.
        data_options: options of the source.
        out: folder of the page, `results.json` and the runs; "runs/reproduce-<name>" when absent.
        scaled_down: take the recipe's sizes for two CPU cores, minutes instead of GPU hours.
        limit: use the first so many training images.
        limit_test: measure on the first so many test images.
        epochs: of pretraining.
        evaluation_epochs: of the protocols that train with mini-batches.
        device: auto, cpu or cuda.
        seed: of the weights, the order of the images, their views and the label subsets.

    Returns:
        The page, `tables.html` in `out`.

    Raises:
        UserError: an unknown name or option, a damaged recipe, too few images, or `out` holds runs of other sizes.
        DataError: the data cannot be read.
        TrainingError: a run diverged, or cannot be saved.
    """
    command = command_line("reproduce", reproduce, locals())
    path = find_recipe(name)
    recipe = read_recipe(path)
    small = dict(recipe.scaled_down) if scaled_down else {}
    given = {"limit": limit, "limit_test": limit_test, "epochs": epochs, "evaluation_epochs": evaluation_epochs}
    sizes = Sizes(**{key: small.pop(key, None) if value is None else value for key, value in given.items()})
    for key, value in given.items():
        small.pop(key, None)
        if value is not None and value < 1:
            raise UserError(f"{key} is {value}; give 1 or more, or leave it out for the published size")
    out = Path(out or f"runs/reproduce-{path.stem}")
    common = {**recipe.pretrain, **small, "device": device, "seed": seed}
    if data is not None:
        common |= {"data": data, "data_options": {}}
    common |= {key: value for key, value in (("root", root), ("data_options", data_options)) if value is not None}
    work = _Work(recipe, sizes, common, out, seed)
    differing = deviations(recipe, sizes, work.configs, work.data)
    setting = Setting(command, differing, facts(work.configs, work.data))
    write_tables(recipe, work.values(), setting, out)
    for position, run in enumerate(recipe.runs, start=1):
        Console().print(f"run {position} of {len(recipe.runs)}: {run}")
        work.pretrain(run)
        for evaluation in recipe.evaluations:
            for cells in work.missing(run, evaluation):
                work.evaluate(run, evaluation, cells)
                write_tables(recipe, work.values(), setting, out)
    print_tables(recipe, work.values(), setting)
    return write_tables(recipe, work.values(), setting, out)


class _Work:
    """What is done of a reproduction, in its folder."""

    def __init__(self, recipe: Recipe, sizes: Sizes, common: Mapping[str, Any], out: Path, seed: int) -> None:
        self.recipe, self.sizes, self.out, self.seed = recipe, sizes, out, seed
        self.configs = {run: self._config(run, common) for run in recipe.runs}
        self.data = self._find_data()
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(f"cannot make the folder {out}: {error.strerror}; give another --out") from error
        self.done = _read(out / RESULTS_FILE)

    def _config(self, run: str, common: Mapping[str, Any]) -> TrainConfig:
        options = {**common, **self.recipe.runs[run], "out": str(self.out / run)}
        for name in ("limit", "epochs"):
            if getattr(self.sizes, name):
                options[name] = getattr(self.sizes, name)
        return resolve(TrainConfig(**options))

    def _find_data(self) -> dict[str, Data]:
        """The images of every run; runs that share them are checked together, for the largest demands."""
        groups: dict[str, list[str]] = {}
        for run, config in self.configs.items():
            where = (config.data, config.root, config.data_options, config.on_error, config.split, config.limit)
            groups.setdefault(repr(where), []).append(run)
        found: dict[str, Data] = {}
        for runs in groups.values():
            largest = max((self.configs[run] for run in runs), key=lambda config: config.batch_size)
            samples = max((cell.samples_per_class or 0 for cell in self._cells() if cell.run in runs), default=0)
            images = find_data(largest, self.sizes.limit or 0, self.sizes.limit_test or 0, samples)
            found |= dict.fromkeys(runs, images)
        return found

    def _cells(self) -> list[Cell]:
        return [cell for table in self.recipe.tables for row in table.cells() for cell in row]

    def pretrain(self, run: str) -> None:
        """Trains a run, or the rest of it."""
        config = self.configs[run]
        if not (self.out / run / BACKBONE_FILE).exists() or not (self.out / run / CONFIG_FILE).exists():
            # Rows of weights that are no more there say nothing of the new ones.
            self.done = {key: value for key, value in self.done.items() if key.partition("/")[0] != run}
            try:
                pretrain(config, resume=(self.out / run / CONFIG_FILE).exists())
            except Interrupted as stop:
                message = f"{stop}, or start the reproduction again, which goes on there"
                raise Interrupted(message, stop.exit_code - 128) from stop
        else:
            # It must be this run, and not one of other sizes.
            resolve(config, saved=read_config(self.out / run / CONFIG_FILE))

    def missing(self, run: str, evaluation: str) -> list[list[Cell]]:
        """The cells of a run and an evaluation that are not measured yet, those of equal labels together."""
        rows = self._known(run, evaluation)["rows"]
        groups: dict[tuple[float | None, int | None], list[Cell]] = {}
        for cell in self._cells():
            if (cell.run, cell.evaluation) == (run, evaluation) and _find(rows, cell) is None:
                groups.setdefault((cell.label_fraction, cell.samples_per_class), []).append(cell)
        return list(groups.values())

    def evaluate(self, run: str, evaluation: str, cells: Sequence[Cell]) -> None:
        """Measures cells of equal labels and writes what is known then: what ends early leaves what it has."""
        how, known = self.recipe.evaluations[evaluation], self._known(run, evaluation)
        known["rows"] += evaluate(
            self.out / run,
            protocols=(how.protocol,),
            label_fractions=_unique(cell.label_fraction for cell in cells),
            samples_per_class=_unique(cell.samples_per_class for cell in cells),
            baselines=any(cell.encoder != "pretrained" for cell in cells),
            baseline_backbone=how.baseline_backbone,
            protocol_options={how.protocol: known["settings"]["options"]},
            limit_train=self.sizes.limit or 0,
            limit_test=self.sizes.limit_test or 0,
            device=self.configs[run].device,
            seed=self.seed,
        )
        self.done[f"{run}/{evaluation}"] = known
        write_atomically(self.out / RESULTS_FILE, (json.dumps(self.done, indent=2) + "\n").encode())

    def _known(self, run: str, evaluation: str) -> dict[str, Any]:
        """Settings and rows of what was measured; no rows where it was measured with other settings."""
        known: dict[str, Any] = self.done.get(f"{run}/{evaluation}", {})
        settings = self._settings(evaluation)
        return known if known.get("settings") == settings else {"settings": settings, "rows": []}

    def _settings(self, evaluation: str) -> dict[str, Any]:
        """What the rows of an evaluation depend on, beside the run."""
        how = self.recipe.evaluations[evaluation]
        options = dict(how.options)
        if self.sizes.evaluation_epochs and takes_epochs(how.protocol):
            options["epochs"] = self.sizes.evaluation_epochs
        return {
            "protocol": how.protocol,
            "options": options,
            "baseline_backbone": how.baseline_backbone,
            "limit": self.sizes.limit,
            "limit_test": self.sizes.limit_test,
            "seed": self.seed,
        }

    def values(self) -> list[list[list[float | None]]]:
        """Measured percentages by table, row and column; None is not measured yet."""

        def value(cell: Cell) -> float | None:
            row = _find(self._known(cell.run, cell.evaluation)["rows"], cell)
            return None if row is None else float(row[cell.metric])

        def of_table(table: Table) -> list[list[float | None]]:
            return [[value(cell) for cell in row] for row in table.cells()]

        return [of_table(table) for table in self.recipe.tables]


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(known, dict):
            raise TypeError("no mapping of evaluations")
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"cannot read {path}: {error}; remove the file and start again") from error
    return known


def _find(rows: Sequence[Row], cell: Cell) -> Row | None:
    for row in rows:
        if all(row[key] == getattr(cell, key) for key in ("encoder", "label_fraction", "samples_per_class")):
            return row
    return None


def _unique(values: Any) -> list[Any]:
    return sorted({value for value in values if value is not None})
