"""Recipe files: the published numbers, the cells, and what a damaged file is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sslfast import registry
from sslfast.errors import UserError
from sslfast.reproduce.recipe import Cell, find_recipe, read_recipe
from sslfast.train import TrainConfig
from sslfast.train.config import resolve

RECIPE = {
    "title": "t",
    "source": "s",
    "pretrain": {"data": "shapes"},
    "runs": {"a": {"method": "simclr"}},
    "evaluations": {"e": {"protocol": "knn"}},
    "tables": [
        {
            "title": "T",
            "columns": [{"title": "1 %", "label_fraction": 0.01}, {"title": "two each", "samples_per_class": 2}],
            "rows": [
                {"title": "r", "run": "a", "evaluation": "e", "published": [1.5, None]},
                {"title": "q", "run": "a", "evaluation": "e", "encoder": "random", "metric": "top5"},
            ],
        }
    ],
}


def write(tmp_path: Path, recipe: object) -> Path:
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def test_a_cell_has_the_settings_of_its_row_and_its_column(tmp_path: Path):
    (table,) = read_recipe(write(tmp_path, RECIPE)).tables
    assert table.cells() == [
        [Cell("a", "e", "pretrained", "top1", 0.01, None, 1.5), Cell("a", "e", "pretrained", "top1", None, 2, None)],
        [Cell("a", "e", "random", "top5", 0.01, None, None), Cell("a", "e", "random", "top5", None, 2, None)],
    ]


def change(*keys, value):
    """RECIPE with another value at the end of a path of keys; None removes it."""
    recipe = yaml.safe_load(yaml.safe_dump(RECIPE))
    place = recipe
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    if value is None:
        del place[keys[-1]]
    return recipe


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (change("title", value=None), "the recipe lacks 'title'"),
        (change("pretrain", "epoch", value=3), "pretrain sets 'epoch'; did you mean 'epochs'"),
        (change("runs", "a", "metod", value="x"), "a sets 'metod'; did you mean 'method'"),
        (change("evaluations", "e", "protocol", value=None), "evaluation 'e' lacks 'protocol'"),
        (change("tables", 0, "rows", 0, "run", value="b"), "asks for run 'b'"),
        (change("tables", 0, "rows", 0, "evaluation", value="f"), "asks for evaluation 'f'"),
        (change("tables", 0, "rows", 0, "encoder", value="pretraind"), "did you mean 'pretrained'"),
        (change("tables", 0, "rows", 0, "published", value=[1]), "1 published numbers for 2 columns"),
        (change("tables", 0, "rows", 0, "colour", value=1), "has 'colour'"),
        (change("runs", value=["a"]), "must be a mapping"),
        ([1], "holds no options"),
        (change("title", value=1), "title 1; it must be text"),
        ({**RECIPE, "tables": None}, "must be a list of mappings"),
        (change("tables", 0, "columns", value=3), "columns 3; it must be a list of mappings"),
        (change("tables", 0, "rows", 0, "published", value=1.5), "1.5; it must be a list of numbers or nulls"),
        (change("tables", 0, "rows", 0, "published", value=["abc", 1]), "must be a list of numbers or nulls"),
        (change("tables", 0, "rows", 0, "title", value=1), "title 1; it must be text"),
        (change("tables", 0, "columns", 0, "title", value=1), "title 1; it must be text"),
        (change("tables", 0, "columns", 0, "label_fraction", value="1 %"), "'1 %'; it must be a number"),
        (change("tables", 0, "columns", 0, "label_fraction", value="1e-2"), "YAML reads this as text, write 0.01"),
        (change("tables", 0, "columns", 0, "label_fraction", value=2), "outside (0, 1]"),
        (change("tables", 0, "columns", 0, "samples_per_class", value=2), "either a label fraction or a number"),
        (change("tables", 0, "columns", 1, "samples_per_class", value=1.5), "1.5; it must be a whole number"),
        (change("tables", 0, "rows", 1, "encoder", value="scratch"), "'knn' with encoder 'scratch'"),
        (change("scaled_down", value=[1]), "[1]; it must be a mapping"),
        (change("scaled_down", value={"batchsize": 3}), "scaled_down sets 'batchsize'; did you mean 'batch_size'"),
        (change("scaled_down", value={"limit": "all"}), "limit to 'all'; it must be a whole number"),
        (change("evaluations", "e", "options", value=[1]), "[1]; it must be a mapping of names to values"),
        (change("evaluations", "e", "options", value={"neighbors": 3}), "did you mean 'neighbours'"),
        (change("evaluations", "e", "options", value={"temperature": "1e-1"}), "write 0.1"),
        (change("evaluations", "e", "protocol", value="knm"), "did you mean 'knn'"),
        (change("evaluations", "e", "baseline_backbone", value="resnet81"), "resnet18"),
        (change("runs", value={"../b": {}}), "run '../b' cannot name a folder"),
        (change("runs", value={4: {}}), "must be a mapping of names to mappings"),
    ],
)
def test_a_damaged_recipe_names_file_and_fault(tmp_path: Path, recipe: object, message: str):
    with pytest.raises(UserError, match=r"r\.yaml") as error:
        read_recipe(write(tmp_path, recipe))
    assert message in str(error.value)


def test_names_and_files(tmp_path: Path):
    with pytest.raises(UserError, match="did you mean 'denoising-cifar10'"):
        find_recipe("denoising-cifar")
    with pytest.raises(UserError, match="there is no file"):
        find_recipe(str(tmp_path / "none.yaml"))
    path = write(tmp_path, RECIPE)
    assert find_recipe(str(path)) == path
    for text, fault in (
        ("a: [", "line 1, column 5 is not YAML"),
        ("title: a\ntitle: b\n", "has 'title' in line 1 and"),
    ):
        (tmp_path / "broken.yaml").write_text(text)
        with pytest.raises(UserError, match=rf"the recipe .*broken\.yaml.*{fault}"):
            read_recipe(tmp_path / "broken.yaml")


@pytest.mark.parametrize("name", registry.REPRODUCTIONS)
def test_every_run_of_the_recipes_is_a_valid_configuration(name: str):
    recipe = read_recipe(find_recipe(name))
    for run, options in recipe.runs.items():
        config = resolve(TrainConfig(**{"data": "shapes", **recipe.pretrain, **options}))
        assert config.epochs >= 5, run
    for evaluation in recipe.evaluations.values():
        assert callable(registry.resolve("protocols", evaluation.protocol))
    used = {cell.run for table in recipe.tables for row in table.cells() for cell in row}
    assert used == set(recipe.runs)


def test_split_brain_has_the_sizes_of_the_report():
    recipe = read_recipe(find_recipe("split-brain"))
    epochs = {"alexnet_fcn": 5, "resnet18": 7, "simplenet": 11}
    for run, options in recipe.runs.items():
        config = resolve(TrainConfig(**{**recipe.pretrain, **options}))
        assert config.epochs == epochs[config.backbone], run
        assert (config.learning_rate, config.schedule, config.batch_size) == (1e-4, "exponential", 64), run
    table = recipe.tables[0]
    assert {cell.samples_per_class for row in table.cells() for cell in row} == {64}  # 64,000 of 1000 classes


def test_the_denoising_report_fine_tunes_through_the_convolution():
    how = read_recipe(find_recipe("denoising-cifar10")).evaluations["finetuned"]
    assert how.options["head"] == "linear_conv"


def test_the_published_numbers_of_the_denoising_tables():
    first, second = read_recipe(find_recipe("denoising-cifar10")).tables
    assert [row[0].published for row in first.cells()] == [41.3, 38.4, 20.7, 11]
    pretrained, scratch = ([cell.published for cell in row] for row in second.cells())
    assert pretrained == [38.2, 54.8, 64.4, 68.9, 76.6, 79.2, 81.4]
    assert scratch == [27.5, 34.8, 41.4, 50.8, 56.8, 62.0, 66.3]
    assert [cell.label_fraction for cell in second.cells()[0]] == [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0]


def test_the_published_numbers_of_the_rotations():
    (table,) = read_recipe(find_recipe("rotation-angles")).tables
    assert [row[0].published for row in table.cells()] == [89.06, 88.51, 87.46, 85.52, None]


def test_the_published_numbers_of_split_brain():
    first, second = read_recipe(find_recipe("split-brain")).tables
    top1 = [row[0].published for row in first.cells()]
    assert top1 == [9.43, 3.01, 9.58, 12.27, 13.51, 14.04, 10.81, 10.93, 12.66, 6.53]
    top5 = [row[1].published for row in first.cells()]
    assert top5 == [23.43, 9.88, 24.79, 27.11, 29.45, 30.15, 24.76, 25.58, 27.99, 18.15]
    assert [cell.published for cell in second.cells()[0]] == [0.65, 1.12, 1.99, 3.66, 6.56, 10.12, 14.50]
    assert [cell.published for cell in second.cells()[1]] == [2.15, 3.52, 5.74, 9.98, 16.48, 23.74, 30.96]
    assert [cell.samples_per_class for cell in second.cells()[0]] == [1, 2, 4, 8, 16, 32, 64]
