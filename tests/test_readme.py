"""The code of the README and of docs/ runs, and the commands exist with the options shown."""

import re
import shlex
from pathlib import Path

import pytest

from sslfast.cli import COMMANDS, main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    path.name: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
BLOCKS = {
    name: re.findall(r"^```(\w+)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL) for name, text in PAGES.items()
}
# A page of docs/ is one program, told in parts; the README's blocks stand alone.
PROGRAMS = [
    (name, part)
    for name, blocks in BLOCKS.items()
    for code in [[code for language, code in blocks if language == "python"]]
    for part in (code if name == "README.md" else ["".join(code)])
    if part
]
COMMAND_LINES = sorted(
    {
        re.sub(r"^(torchrun .* -m|srun) sslfast", "sslfast", line.partition("#")[0].strip())
        for blocks in BLOCKS.values()
        for language, code in blocks
        if language == "bash"
        for line in code.splitlines()
        if re.match(r"(torchrun .* -m )?sslfast ", line)
    }
)
QUICK = {"sslfast list methods", "sslfast info", "sslfast pretrain --help"}


@pytest.mark.parametrize(
    ("page", "code"), PROGRAMS, ids=[f"{name}-{position}" for position, (name, _) in enumerate(PROGRAMS)]
)
def test_python_blocks_run(page: str, code: str) -> None:
    exec(compile(code, page, "exec"), {"__name__": page})


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    folder = ROOT if page == "README.md" else ROOT / "docs"
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", PAGES[page]):
        assert (folder / target).exists(), target


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
            assert option.partition(".")[0] in text


def test_quick_commands_are_in_the_readme() -> None:
    assert set(COMMAND_LINES) >= QUICK


def test_setup_commands_are_whole() -> None:
    """A line for each of quickstart and tests, that needs nothing but python3; `.ci/run` runs the second."""
    lines = [line for line in README.splitlines() if line.startswith("python3 -m venv .venv && .venv/bin/pip install ")]
    assert len(lines) == 2
    assert lines[0].endswith(" && .venv/bin/sslfast quickstart")
    assert lines[1].endswith(" && .venv/bin/pytest")
