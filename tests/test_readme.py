"""The code of the README and of docs/ runs, and the commands exist with the options shown."""

import importlib
import importlib.metadata
import re
import shlex
import sys
from pathlib import Path

import jsonargparse
import numpy as np
import pytest

from sslfast.cli import COMMANDS, build_parser, main, normalize
from sslfast.errors import UserError
from sslfast.train import load_run

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    path.name: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
BLOCKS = {
    name: re.findall(r"^```(\w+)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL) for name, text in PAGES.items()
}
MARKDOWN = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# A page of docs/ is one program, told in parts; the README's blocks stand alone.
PROGRAMS = [
    (name, part)
    for name, blocks in BLOCKS.items()
    for code in [[code for language, code in blocks if language == "python"]]
    for part in (code if name == "README.md" else ["".join(code)])
    if part
]


def expanded(script: str) -> str:
    """The script with its own variables in place; those of others and of commands are empty."""
    variables = dict(re.findall(r'^(\w+)="(.*)"$', script, flags=re.MULTILINE))
    return re.sub(r"\$(\w+)", lambda match: variables.get(match[1], ""), script)


COMMAND_LINES = sorted(
    {
        match[2].partition("#")[0].strip()
        for blocks in BLOCKS.values()
        for language, code in blocks
        if language == "bash"
        for line in expanded(code).splitlines()
        if (match := re.match(r"(torchrun .* -m |srun )?(sslfast .*)", line))
    }
)
QUICK = {"sslfast list methods", "sslfast info", "sslfast pretrain --help"}


@pytest.mark.parametrize(
    ("page", "code"), PROGRAMS, ids=[f"{name}-{position}" for position, (name, _) in enumerate(PROGRAMS)]
)
def test_python_blocks_run(page: str, code: str) -> None:
    exec(compile(code, page, "exec"), {"__name__": page})


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_files_and_extras_exist(path: Path) -> None:
    """Links, the paths in code that start at the checkout's root, and the extras that pip is told."""
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (path.parent / target).exists(), target
    for target in re.findall(r"`((?:sslfast|benchmarks|csrc|docs|tests|\.ci)/[\w./-]+)", text):
        assert "my_op" in target or (ROOT / target).exists(), target
    extras = importlib.metadata.metadata("sslfast").get_all("Provides-Extra") or []
    for named in re.findall(r"(?:\.|sslfast)\[([\w,-]+)\]", text):
        assert set(named.split(",")) <= set(extras), named


def parse(command: str, arguments: list[str]) -> None:
    module, _, attribute = COMMANDS[command][0].partition(":")
    parser, options, _ = build_parser(command, getattr(importlib.import_module(module), attribute))
    parser.parse_args(normalize(arguments, options))


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_command_line_is_valid(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Quick commands run; the others have options that exist, with values of their types."""
    command, *rest = shlex.split(line)[1:]
    if line in QUICK:
        assert main([command, *rest]) == 0
        assert capsys.readouterr().out
        return
    parse(command, rest)


@pytest.mark.parametrize("code", [code for kind, code in BLOCKS["README.md"] if kind == "yaml"])
def test_configuration_is_valid(code: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(code)
    parse("pretrain", ["--config", str(tmp_path / "recipe.yaml")])


def test_what_is_no_option_is_found() -> None:
    for line in ("--epoch 3", "--limit many", "--seed"):
        with pytest.raises((UserError, jsonargparse.ArgumentError)):
            parse("pretrain", line.split())


def test_command_lines_of_every_launcher_are_found() -> None:
    options = "--method simclr --data folder --root DIR --loader dali --image-size 224"
    assert sum(line.startswith(f"sslfast pretrain {options}") for line in COMMAND_LINES) >= 3


def test_data_of_ones_own_trains_and_is_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of the page, from the folder that holds its class, on six channels."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])  # as of the installed command
    (module,) = [code for _, code in BLOCKS["your-own-data.md"] if "class HHA" in code]
    Path("my_data.py").write_text(module, encoding="utf-8")
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("kitchen", "office"):
            folder = Path("scenes", split, name)
            folder.mkdir(parents=True)
            for number in range(8):
                np.save(folder / f"{number}.npy", random.integers(0, 256, (20 + number, 24, 6), dtype=np.uint8))
    commands = [line for line in COMMAND_LINES if "my_data:HHA" in line]
    commands += ["sslfast evaluate runs/split_brain --protocols knn"]
    quick = "--backbone resnet10_narrow --image-size 16 --epochs 1 --batch-size 8 --device cpu"
    for line, more in zip(commands, (quick, "--device cpu"), strict=True):
        assert main(shlex.split(f"{line} {more}")[1:]) == 0
    run = load_run("runs/split_brain")
    assert run.backbone().groups == ((0, 1, 2), (3, 4, 5)) and run.config.data == "my_data:HHA"


def test_quick_commands_are_in_the_readme() -> None:
    assert set(COMMAND_LINES) >= QUICK


def test_setup_commands_are_whole() -> None:
    """A line for each of quickstart and tests, that needs nothing but python3; `.ci/run` runs the second."""
    lines = [line for line in README.splitlines() if line.startswith("python3 -m venv .venv && .venv/bin/pip install ")]
    assert len(lines) == 2
    assert lines[0].endswith(" && .venv/bin/sslfast quickstart")
    assert lines[1].endswith(" && .venv/bin/pytest")
