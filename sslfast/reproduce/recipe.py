"""Recipe: what a published table compares, as one YAML file says it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml

from sslfast import registry
from sslfast.errors import UserError
from sslfast.evaluate.evaluation import baseline, protocol_with
from sslfast.evaluate.subsets import check_budget
from sslfast.models.backbone import check_backbone_name
from sslfast.options import check_config, described, fits, number_hint
from sslfast.train import TrainConfig

FOLDER = Path(__file__).parent
SIZES = ("limit", "limit_test", "epochs", "evaluation_epochs")
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
        encoder: "pretrained" or the protocol's baseline, "random" or "scratch".
        metric: "top1" or "top5".
        label_fraction, samples_per_class: the labels used, by one of the two; all of them when neither is given.
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
        classes: of the published data, where its name leaves them open, as `folder` does.
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
    classes: int | None = None


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
    check_config(path, "recipe")
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    with _naming(path):
        return _checked(_build(Recipe, values, "the recipe"))


def _checked(recipe: Recipe) -> Recipe:
    options = [field.name for field in fields(TrainConfig)]
    small = [*options, *(size for size in SIZES if size not in options)]
    settings = [("pretrain", recipe.pretrain, options), *((run, own, options) for run, own in recipe.runs.items())]
    for name, values, known in [*settings, ("scaled_down", recipe.scaled_down, small)]:
        for option in values:
            if option not in known:
                raise UserError(f"{name} sets {option!r}; {registry.nearest(option, known)}")
    for name in SIZES:
        value = recipe.scaled_down.get(name, 1)
        if type(value) is not int or value < 1:
            raise UserError(f"scaled_down sets {name} to {value!r}; it must be a whole number of at least 1")
    for name in recipe.runs:
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise UserError(f"run {name!r} cannot name a folder; use letters, digits, '_', '-' and '.' only")
    evaluations = {}
    for name, value in recipe.evaluations.items():
        how = evaluations[name] = _build(Evaluation, value, f"evaluation {name!r}")
        with _naming(f"evaluation {name!r}"):
            protocol_with(how.protocol, how.options)
            check_backbone_name(how.baseline_backbone)
    tables = [_table(value) for value in recipe.tables]
    for table in tables:
        for cell in (cell for row in table.cells() for cell in row):
            with _naming(f"table {table.title!r}"):
                _check_cell(cell, recipe.runs, evaluations)
    return replace(recipe, evaluations=evaluations, tables=tables)


def _check_cell(cell: Cell, runs: Mapping[str, Any], evaluations: Mapping[str, Evaluation]) -> None:
    _check(cell.run, runs, "run")
    _check(cell.evaluation, evaluations, "evaluation")
    protocol = evaluations[cell.evaluation].protocol
    encoders = ("pretrained", baseline(registry.resolve("protocols", protocol)))
    _check(cell.encoder, encoders, f"protocol {protocol!r} with encoder")
    _check(cell.metric, METRICS, "metric")
    check_budget(cell.label_fraction, cell.samples_per_class)


@contextmanager
def _naming(place: str | Path) -> Iterator[None]:
    """Puts the place before the message of what a user did wrong there."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{place}: {error}") from error


def _table(value: Any) -> Table:
    table = _build(Table, value, "a table")
    lines = {
        name: [_build(Line, line, f"{name} of table {table.title!r}") for line in getattr(table, name)]
        for name in ("columns", "rows")
    }
    for row in lines["rows"]:
        if row.published is not None and len(row.published) != len(lines["columns"]):
            raise UserError(
                f"row {row.title!r} has {len(row.published)} published numbers for {len(lines['columns'])} columns; "
                "give one a column, null where there is none"
            )
    return Table(table.title, lines["columns"], lines["rows"], table.note)


def _build(type_: type[T], value: Any, what: str) -> T:
    """A dataclass from a mapping of its fields, whose own dataclasses stay mappings."""
    if not isinstance(value, Mapping):
        raise UserError(f"{what} must be a mapping, got {value!r}")
    hints = get_type_hints(type_)
    for name, entry in value.items():
        if name not in hints:
            raise UserError(f"{what} has {name!r}; {registry.nearest(str(name), list(hints))}")
        if not fits(entry, hints[name]):
            raise UserError(f"{what} has {name} {entry!r}; it must be {described(hints[name])}{number_hint(entry)}")
    for field_ in fields(type_):  # type: ignore[arg-type]
        if field_.name not in value and field_.default is MISSING and field_.default_factory is MISSING:
            raise UserError(f"{what} lacks {field_.name!r}; add it")
    return type_(**value)


def _check(name: Any, valid: Any, what: str) -> None:
    if name not in valid:
        raise UserError(f"a cell asks for {what} {name!r}; {registry.nearest(str(name), list(valid))}")
