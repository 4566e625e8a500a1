"""The README's code runs, and its commands exist with the options shown."""

import re
import shlex
from pathlib import Path

import pytest

from sslfast.cli import COMMANDS, main

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
COMMAND_LINES = [
    line.partition("#")[0].strip()
    for language, code in BLOCKS
    if language == "bash"
    for line in code.splitlines()
    if line.startswith("sslfast ")
]
QUICK = {"sslfast list methods", "sslfast info", "sslfast pretrain --help"}


@pytest.mark.parametrize("code", PYTHON, ids=[f"block{i}" for i in range(len(PYTHON))])
def test_python_block_runs(code: str) -> None:
    exec(compile(code, "README.md", "exec"), {})


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_command_line_is_valid(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Quick commands run; of the others, every option is one that `--help` lists."""
    command, *rest = shlex.split(line)[1:]
    if line in QUICK:
        try:
            assert main([command, *rest]) == 0
        except SystemExit as stop:  # --help
            assert stop.code == 0
        assert capsys.readouterr().out
        return
    assert command in COMMANDS
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = capsys.readouterr().out
    for option in rest:
        if option.startswith("--"):
            assert option in text


def test_quick_commands_are_in_the_readme() -> None:
    assert set(COMMAND_LINES) >= QUICK


def test_setup_commands_are_whole() -> None:
    """A line for each of quickstart and tests, that needs nothing but python3; `.ci/run` runs the second."""
    lines = [line for line in README.splitlines() if line.startswith("python3 -m venv .venv && .venv/bin/pip install ")]
    assert len(lines) == 2
    assert lines[0].endswith(" && .venv/bin/sslfast quickstart")
    assert lines[1].endswith(" && .venv/bin/pytest")
