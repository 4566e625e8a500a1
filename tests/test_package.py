"""The package inside other people's programs: what importing it costs and changes, and what editors see of it."""

import importlib
import pydoc
import subprocess
import sys
from importlib import resources

import pytest

import sslfast

# Prints what `importing` changed in a program that has torch already.
PROGRAM = """
import os, random, sys, warnings
import numpy, torch, torch.utils.data

def state():
    return {
        "environment": dict(os.environ),
        "warnings": list(warnings.filters),
        "random streams": (random.getstate(), str(numpy.random.get_state()), torch.random.get_rng_state().tolist()),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "precision": (torch.get_default_dtype(), torch.get_float32_matmul_precision()),
        "backends": (torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled()),
        "path": list(sys.path),
        "torch's compiler": "torch._dynamo" in sys.modules,
    }

before = state()
{importing}
after = state()
print(*(name for name in before if before[name] != after[name]), sep=", ")
"""


def run(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize(
    "importing",
    [
        "import sslfast.ops, sslfast.losses, sslfast.augment, sslfast.data",
        "from sslfast.compat.lightly import transforms",
    ],
)
def test_importing_a_backend_changes_nothing(importing):
    """Nor does it import torch's compiler, which takes a second in every worker of a loader."""
    assert run(PROGRAM.replace("{importing}", importing)) == ""


def test_parts_are_imported_when_they_are_used():
    assert run("import sys, sslfast; print('torch' in sys.modules, sslfast.errors.UserError.__name__)") == (
        "False UserError"
    )
    assert run("import sslfast; print(sslfast.losses.NTXentLoss.__name__, sslfast.augment.presets.__name__)") == (
        "NTXentLoss sslfast.augment.presets"
    )


@pytest.mark.parametrize("part", sslfast.__all__)
def test_every_part_is_there_and_tells_what_it_is(part):
    assert getattr(sslfast, part) is importlib.import_module(f"sslfast.{part}")
    assert part in dir(sslfast)
    assert part in pydoc.plain(pydoc.render_doc(sslfast))
    assert getattr(sslfast, part).__doc__


def test_what_is_no_part():
    with pytest.raises(AttributeError, match="no attribute 'lossess'; its parts are augment, "):
        sslfast.lossess  # noqa: B018
    assert not hasattr(sslfast, "__wrapped__")


@pytest.mark.parametrize("part", ["augment", "losses", "methods", "models", "ops", "compat.solo", "compat.torch"])
def test_names_of_a_part(part):
    module = importlib.import_module(f"sslfast.{part}")
    for name in module.__all__:
        value = getattr(module, name)
        assert not callable(value) or value.__doc__, name


def test_type_checkers_see_the_annotations():
    """PEP 561: without the file they take everything for Any."""
    assert resources.files("sslfast").joinpath("py.typed").is_file()
