"""What a page says of how its numbers were measured: the differences from the recipe, the facts, the command."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from sslfast import cli
from sslfast.reproduce import reproduce
from sslfast.reproduce.data import Data
from sslfast.reproduce.recipe import Evaluation, Recipe, find_recipe, read_recipe
from sslfast.reproduce.setting import Sizes, command_line, deviations, facts
from sslfast.train import TrainConfig
from sslfast.train.config import resolve

RECIPE = Recipe(
    title="t",
    source="s",
    pretrain={"data": "shapes", "method": "simclr", "batch_size": 64},
    runs={"short": {"epochs": 5}, "long": {"epochs": 11}},
    evaluations={"e": Evaluation("finetune", {"epochs": 50}), "k": Evaluation("knn")},
    tables=[],
    scaled_down={"epochs": 1, "batch_size": 16},
)
DATA = Data(train=900, test=200, all_train=900, all_test=200, classes=10)


def differing(sizes: Sizes, recipe: Recipe = RECIPE, **changes: object) -> dict[str, list[str]]:
    """The deviations of a run with these sizes, whose pretraining has these options."""
    if sizes.epochs:
        changes["epochs"] = sizes.epochs
    configs = {run: resolve(TrainConfig(**{**recipe.pretrain, **own, **changes})) for run, own in recipe.runs.items()}
    return deviations(recipe, sizes, configs, dict.fromkeys(recipe.runs, DATA))


def test_full_size_says_nothing():
    assert differing(Sizes()) == {}
    assert differing(Sizes(limit=900, limit_test=200, evaluation_epochs=50)) == {}
    assert differing(Sizes(limit=5000, limit_test=5000)) == {}
    assert differing(Sizes(epochs=11), replace(RECIPE, runs={"long": {"epochs": 11}})) == {}


@pytest.mark.parametrize(
    ("sizes", "smaller", "other"),
    [
        (Sizes(limit=899), ["the first 899 training images"], []),
        (Sizes(limit_test=20), ["the first 20 test images"], []),
        (Sizes(epochs=4), ["epochs of pretraining: 4"], []),
        (Sizes(epochs=7), ["epochs of pretraining: 7"], []),  # of one run more, of the other fewer
        (Sizes(epochs=11), [], ["epochs of pretraining: 11"]),
        (Sizes(evaluation_epochs=60), [], ["epochs of evaluation: 60"]),
        (Sizes(evaluation_epochs=49, epochs=20), ["epochs of evaluation: 49"], ["epochs of pretraining: 20"]),
    ],
)
def test_sizes_are_compared_with_the_recipes_own(sizes: Sizes, smaller: list[str], other: list[str]):
    expected = {"Scaled down": smaller, "Other sizes than published": other}
    assert differing(sizes) == {kind: texts for kind, texts in expected.items() if texts}


def test_options_of_a_scaled_down_run_are_compared_too():
    assert differing(Sizes(), batch_size=16) == {"Scaled down": ["batch size 16"]}
    larger = replace(RECIPE, scaled_down={"batch_size": 128})
    assert differing(Sizes(), larger, batch_size=128) == {"Other sizes than published": ["batch size 128"]}
    assert differing(Sizes(), larger) == {}


def test_other_data_is_named_with_its_options():
    assert differing(Sizes(), data="folder") == {"Other data than published": ["folder"]}
    assert differing(Sizes(), data_options={"size": 16}) == {"Other data than published": ["shapes with size 16"]}


def test_a_folder_of_other_classes_is_other_data():
    folder = replace(RECIPE, pretrain={**RECIPE.pretrain, "data": "folder"}, classes=1000)
    assert differing(Sizes(), folder) == {"Other data than published": ["folder of 10 classes"]}
    assert differing(Sizes(), replace(folder, classes=10)) == {}
    assert read_recipe(find_recipe("split-brain")).classes == 1000


def test_facts_tell_the_runs_apart_where_their_data_differ():
    one = resolve(TrainConfig(method="simclr", data="shapes", seed=7))
    two = resolve(TrainConfig(method="simclr", data="folder", root="/photos", seed=7))
    text = "900 of 1,900 training images, 200 of 200 test images, 10 classes"
    data = replace(DATA, all_train=1900)
    assert facts({"a": one, "b": one}, {"a": data, "b": data}) == [("data", f"shapes; {text}"), ("seed", "7")]
    assert facts({"a": one, "b": two, "c": two}, {"a": data, "b": data, "c": data}) == [
        ("data of a", f"shapes; {text}"),
        ("data of b, c", f"folder in /photos; {text}"),
        ("seed", "7"),
    ]


def test_the_command_line_calls_with_the_same_values():
    values = {
        "name": "split-brain",
        "data": "shapes",
        "root": None,
        "data_options": {"size": 16},
        "out": Path("my runs"),
        "scaled_down": True,
        "limit": 640,
        "limit_test": None,
        "epochs": 2,
        "evaluation_epochs": None,
        "device": "cpu",
        "seed": 3,
    }
    command = command_line("reproduce", reproduce, values)
    assert command.startswith("sslfast reproduce split-brain --data shapes ")
    parser, options, _ = cli.build_parser("reproduce", reproduce)
    parsed = parser.parse_args(cli.normalize(shlex.split(command)[2:], options)).as_dict()
    assert {name: str(parsed[name]) for name in values} == {name: str(value) for name, value in values.items()}


def test_a_call_without_options_is_a_short_command():
    values = {"name": "x.yaml", "limit": None, "seed": 0, "scaled_down": False}

    def function(name: str, limit: int | None = None, scaled_down: bool = False, seed: int = 0) -> None: ...

    assert command_line("reproduce", function, values) == "sslfast reproduce x.yaml"
