from __future__ import annotations

import inspect
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import get_type_hints

import pytest
import yaml

from sslfast import methods, registry
from sslfast.data import build_source
from sslfast.errors import UserError
from sslfast.train import TrainConfig, resolve
from sslfast.train.config import BOUNDS, DEFAULTS, GIVEN_OPTIONS, read_config, write_config

RECIPES = sorted((Path(registry.__file__).parent / "recipes").glob("*.yaml"))


def test_a_value_comes_from_the_user_then_the_recipe_then_the_defaults(tiny):
    config = resolve(tiny(epochs=7))
    assert config.epochs == 7  # the recipe has 3
    assert (config.learning_rate, config.batch_size) == (0.1, 8)  # the recipe's
    assert config.accumulate == DEFAULTS["accumulate"]
    assert config.precision == "32-true"
    assert all(value is not None for name, value in asdict(config).items() if name != "root")


def test_resolving_twice_changes_nothing(tiny):
    config = resolve(tiny(root=Path("some/where"), method_options={"noise": 0.5}))
    assert resolve(config) == config


def test_config_file_repeats_the_run(tiny, tmp_path):
    config = resolve(tiny(method_options={"noise": 0.5}))
    path = tmp_path / "config.yaml"
    path.write_text(write_config(config))
    assert read_config(path) == config
    assert path.read_text().startswith("# sslfast ")


def test_out_is_named_after_the_method():
    assert resolve(TrainConfig(method="simclr", data="shapes")).out == "runs/simclr"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"epochs": "three"}, "epochs is 'three'"),
        ({"learning_rate": "1e-3"}, "it must be a number; YAML reads this as text, write 0.001"),
        ({"optimizer": "sdg", "learning_rate": 0.1}, "did you mean 'sgd'"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"precision": "bf16"}, "did you mean 'bf16-mixed'"),
        ({"precision": "16-mixed"}, "needs CUDA"),
        ({"seed": 2**31}, "seed is 2147483648; it must be at least 0 and less than 2147483648"),
        ({"momentum": 1}, "momentum is 1; it must be at least 0 and less than 1"),
        ({"learning_rate": float("inf")}, "learning_rate is inf; it must be at least 0 and finite"),
        ({"weight_decay": float("inf")}, "weight_decay is inf"),
        ({"warmup_epochs": 3.5}, "warmup_epochs is 3.5 and the run has 3 epochs"),
        ({"epochs": 1.5}, "epochs is 1.5; it must be a whole number"),
        ({"accumulate": 2.5}, "accumulate is 2.5; it must be a whole number"),
        ({"batch_size": True}, "batch_size is True; it must be a whole number"),
        ({"compile": "false"}, "compile is 'false'; it must be true or false"),
        ({"split": 1}, "split is 1; it must be text"),
        ({"method_options": [1]}, "method_options is \\[1\\]; it must be a mapping"),
        ({"on_error": "ignore"}, "on_error is 'ignore'"),
        ({"schedule": "plateau", "warmup_epochs": 3}, "warmup_epochs needs any schedule but plateau"),
        ({"schedule": "step"}, "milestones is \\[\\] and schedule is 'step'; the step schedule needs milestones"),
        ({"milestones": [1]}, "milestones is \\[1\\] and schedule is 'cosine'"),
        ({"schedule": "step", "milestones": [2, 1]}, "must ascend, between 0 and the 3 epochs"),
        ({"schedule": "step", "milestones": [0, 1]}, "must ascend"),
        ({"schedule": "step", "milestones": [1, 3]}, "must ascend"),
        ({"schedule": "step", "milestones": 2}, "milestones is 2; it must be a list of numbers"),
        ({"schedule": "step", "milestones": range(1, 3)}, "it must be a list of numbers"),
        ({"schedule": "step", "milestones": ["1"]}, "it must be a list of numbers"),
        ({"optimizer": "adam"}, "meant for sgd; set --learning-rate for adam"),
        ({"data_options": {"limit": 3}}, "data_options.limit is set by an option of its own: --limit$"),
        ({"data_options": {"on_error": "skip"}}, "data_options.on_error .* --on-error$"),
        ({"method_options": {"image_size": 16}}, "method_options.image_size .* --image-size$"),
        ({"method_options": {"in_channels": 1}}, "method_options.in_channels .* --data$"),
    ],
)
def test_a_wrong_value_names_the_field_and_the_cure(tiny, changes, message):
    with pytest.raises(UserError, match=message):
        resolve(tiny(**changes))


def test_options_of_their_own_are_the_arguments_that_sources_and_methods_share():
    """No option of a source or a method can meet one that the run passes itself."""
    for field, build in (("data_options", build_source), ("method_options", methods.build)):
        parameters = inspect.signature(build).parameters.values()
        assert {p.name for p in parameters if p.kind is not p.VAR_KEYWORD} == set(GIVEN_OPTIONS[field])
        options = {name.replace("-", "_") for name in GIVEN_OPTIONS[field].values()}
        assert options <= {entry.name for entry in fields(TrainConfig)}


@pytest.mark.parametrize(("epochs", "warmup"), [(1000, 10), (50, 5), (3, 0.3)])
def test_a_recipes_warmup_is_cut_to_a_tenth_of_a_short_run(epochs, warmup):
    assert resolve(TrainConfig(method="simclr", data="shapes", epochs=epochs)).warmup_epochs == pytest.approx(warmup)
    assert resolve(TrainConfig(method="simclr", data="shapes", epochs=epochs, warmup_epochs=3)).warmup_epochs == 3


def test_method_and_data_are_asked_for():
    with pytest.raises(UserError, match=r"no method given; set --method to one of: .*simclr"):
        resolve(TrainConfig(data="shapes"))
    with pytest.raises(UserError, match=r"no data given; set --data to one of: .*cifar10"):
        resolve(TrainConfig(method="simclr"))
    with pytest.raises(UserError, match="did you mean 'simclr'"):
        resolve(TrainConfig(method="simcl", data="shapes"))


def test_resume_takes_the_saved_values_and_may_move(tiny):
    saved = resolve(tiny(epochs=9, learning_rate=0.3))
    resumed = resolve(TrainConfig(out="elsewhere", max_steps=4), saved)
    assert (resumed.epochs, resumed.learning_rate, resumed.method) == (9, 0.3, saved.method)
    assert (resumed.out, resumed.max_steps) == ("elsewhere", 4)
    assert resolve(saved, saved) == saved


@pytest.mark.parametrize(
    "changes", [{"method": "simclr"}, {"backbone": "resnet18"}, {"epochs": 4}, {"method_options": {"noise": 1.0}}]
)
def test_resume_refuses_to_become_another_run(tiny, changes):
    (name, value), saved = next(iter(changes.items())), resolve(tiny())
    with pytest.raises(UserError, match=f"cannot resume: .* has {name} .*, not .*leave --{name.replace('_', '-')} out"):
        resolve(TrainConfig(**changes), saved)
    assert getattr(saved, name) != value


@pytest.mark.parametrize("out", ["", " "])
def test_an_empty_run_folder_is_refused(tiny, out):
    with pytest.raises(UserError, match="out is empty; name the run folder"):
        resolve(replace(tiny(), out=out))
    with pytest.raises(UserError, match="out is empty"):
        resolve(TrainConfig(out=out), resolve(tiny()))


def test_every_number_is_bounded():
    numbers = {name for name, hint in get_type_hints(TrainConfig).items() if hint in (int, float)}
    assert set(BOUNDS) == numbers


def test_a_config_file_that_lost_a_value_is_named(tiny):
    saved = replace(resolve(tiny()), epochs=None)
    with pytest.raises(UserError, match="epochs is None; it must be a whole number"):
        resolve(TrainConfig(), saved)


def test_a_damaged_config_file_is_named(tmp_path):
    path = tmp_path / "config.yaml"
    with pytest.raises(UserError, match=r"is no run folder: it has no config.yaml"):
        read_config(path)
    for text, message in [("{", "cannot read"), ("[1]", "holds no options"), ("epoch: 3", "did you mean 'epochs'")]:
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            read_config(path)


def test_every_method_has_a_recipe_file():
    assert {yaml.safe_load(path.read_text())["method"] for path in RECIPES} == set(registry.METHODS)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_file_adds_to_the_methods_recipe_without_repeating_it(path):
    values = yaml.safe_load(path.read_text())
    recipe = registry.resolve("methods", values["method"]).recipe
    repeated = [name for name in values.keys() & recipe.keys() if values[name] == recipe[name]]
    assert not repeated
    config = asdict(resolve(TrainConfig(**values)))
    assert config == {**config, **recipe, **values}
