"""Recipe: what a published table compares, as one YAML file says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from sslfast import registry
from sslfast.errors import UserError
from sslfast.train import TrainConfig

FOLDER = Path(__file__).parent
ENCODERS = ("pretrained", "random", "scratch")
METRICS = ("top1", "top5")

T = TypeVar("T")


@dataclass(frozen=True)
class Evaluation:
    """How an encoder is measured.

    Attributes:
        protocol: a name of `sslfast list protocols`, or a function as "module:function".
        options: the protocol's own.
        baseline_backbone: network that is trained from scratch, where the protocol has that baseline.
    """

    protocol: str
    options: dict[str, Any] = field(default_factory=dict)
    baseline_backbone: str = "resnet18"


@dataclass(frozen=True)
class Line:
    """What a row or a column of a table fixes; each cell has the settings of its row and of its column.

    Attributes:
        title: as the page shows it.
        run: name of a run.
        evaluation: name of an evaluation.
        encoder: "pretrained", "random" or "scratch".
        metric: "top1" or "top5".
        label_fraction, samples_per_class: the labels used; all of them when neither is given.
        published: a row's published numbers in percent, one a column; None where there is none.
    """

    title: str
    run: str | None = None
    evaluation: str | None = None
    encoder: str | None = None
    metric: str | None = None
    label_fraction: float | None = None
    samples_per_class: int | None = None
    published: Sequence[float | None] | None = None


@dataclass(frozen=True)
class Cell:
    """One number of a table: what is measured, and what was published, in percent."""

    run: str
    evaluation: str
    encoder: str
    metric: str
    label_fraction: float | None
    samples_per_class: int | None
    published: float | None


@dataclass(frozen=True)
class Table:
    """A published table.

    Attributes:
        title: as the page shows it.
        note: what a reader must know of the published numbers.
        columns, rows: their settings.
    """

    title: str
    columns: Sequence[Line]
    rows: Sequence[Line]
    note: str = ""

    def cell(self, row: Line, column: int) -> Cell:
        """The settings of a row and of a column together; the row's win."""
        other = self.columns[column]

        def setting(name: str, default: Any = None) -> Any:
            own = getattr(row, name)
            return own if own is not None else getattr(other, name) if getattr(other, name) is not None else default

        fraction, samples = setting("label_fraction"), setting("samples_per_class")
        return Cell(
            run=setting("run"),
            evaluation=setting("evaluation"),
            encoder=setting("encoder", "pretrained"),
            metric=setting("metric", "top1"),
            label_fraction=1.0 if fraction is None and samples is None else fraction,
            samples_per_class=samples,
            published=row.published[column] if row.published else None,
        )

    def cells(self) -> list[list[Cell]]:
        """The cells of every row."""
        return [[self.cell(row, column) for column in range(len(self.columns))] for row in self.rows]


@dataclass(frozen=True)
class Recipe:
    """A reproduction.

    Attributes:
        title: of the page.
        source: who published the numbers.
        note: where the published experiment and this one differ.
        pretrain: options of `sslfast pretrain` that all runs share.
        runs: name -> the options of `sslfast pretrain` that are its own.
        evaluations: name -> how encoders are measured.
        tables: what was published.
        scaled_down: sizes for two CPU cores: limit, limit_test, epochs, evaluation_epochs, and pretraining options.
    """

    title: str
    source: str
    pretrain: dict[str, Any]
    runs: dict[str, dict[str, Any]]
    evaluations: dict[str, Evaluation]
    tables: Sequence[Table]
    scaled_down: dict[str, Any] = field(default_factory=dict)
    note: str = ""


def find_recipe(name: str) -> Path:
    """The file of a recipe: one of `sslfast list reproductions`, or a path that ends in .yaml.

    Raises:
        UserError: there is none.
    """
    if name in registry.REPRODUCTIONS:
        return FOLDER / registry.REPRODUCTIONS[name]
    if name.endswith((".yaml", ".yml")):
        if Path(name).is_file():
            return Path(name)
        raise UserError(f"there is no file {name}; name a recipe file or one of: {', '.join(registry.REPRODUCTIONS)}")
    raise UserError(f"unknown reproduction {name!r}; {registry.nearest(name, list(registry.REPRODUCTIONS))}")


def read_recipe(path: Path) -> Recipe:
    """Reads a recipe file.

    Raises:
        UserError: it cannot be read, lacks something, or names what it does not define.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"cannot read {path}: {error}; correct the file") from error
    recipe = _build(Recipe, values, path, "the recipe")
    known = [field.name for field in fields(TrainConfig)]
    for name in ("runs", "evaluations"):
        _mapping(getattr(recipe, name), path, name)
    for name, options in {"pretrain": recipe.pretrain, **recipe.runs}.items():
        for option in _mapping(options, path, name):
            if option not in known:
                raise UserError(f"{path}: {name} sets {option!r}; {registry.nearest(option, known)}")
    evaluations = {
        name: _build(Evaluation, value, path, f"evaluation {name!r}") for name, value in recipe.evaluations.items()
    }
    tables = [_table(value, path) for value in recipe.tables]
    for table in tables:
        for cell in (cell for row in table.cells() for cell in row):
            _check(cell.run, recipe.runs, "run", path)
            _check(cell.evaluation, evaluations, "evaluation", path)
            _check(cell.encoder, ENCODERS, "encoder", path)
            _check(cell.metric, METRICS, "metric", path)
    return Recipe(**{**vars(recipe), "evaluations": evaluations, "tables": tables})


def _table(value: Any, path: Path) -> Table:
    table = _build(Table, value, path, "a table")
    lines = {
        name: [_build(Line, line, path, f"{name} of table {table.title!r}") for line in getattr(table, name)]
        for name in ("columns", "rows")
    }
    for row in lines["rows"]:
        if row.published is not None and len(row.published) != len(lines["columns"]):
            raise UserError(
                f"{path}: row {row.title!r} has {len(row.published)} published numbers for {len(lines['columns'])} "
                "columns; give one a column, null where there is none"
            )
    return Table(table.title, lines["columns"], lines["rows"], table.note)


def _mapping(value: Any, path: Path, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(f"{path}: {what} must be a mapping, got {value!r}")
    return value


def _build(type_: type[T], value: Any, path: Path, what: str) -> T:
    """A dataclass from a mapping of its fields."""
    known = fields(type_)  # type: ignore[arg-type]
    names = [field.name for field in known]
    for name in _mapping(value, path, what):
        if name not in names:
            raise UserError(f"{path}: {what} has {name!r}; {registry.nearest(str(name), names)}")
    for field_ in known:
        if field_.name not in value and field_.default is MISSING and field_.default_factory is MISSING:
            raise UserError(f"{path}: {what} lacks {field_.name!r}; add it")
    return type_(**value)


def _check(name: Any, valid: Any, what: str, path: Path) -> None:
    if name not in valid:
        raise UserError(f"{path}: a table asks for {what} {name!r}; {registry.nearest(str(name), list(valid))}")
