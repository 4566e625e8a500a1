"""What the command line says beside its results: help, warnings, and what is wrong with files and with the machine."""

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from test_cli import fails

from sslfast import registry
from sslfast.cli import main


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("evaluate", "--baselines [true|false] measure the baselines, too. (default: true)"),
        ("evaluate", "parts of every class's labels to use, each in (0, 1]. (float,float,..., default: 1.0)"),
        ("evaluate", "numbers of labels of every class to use. (int,int,...)"),
        ("evaluate", "may use, **options) -> Scores. (str,str,..., default: knn,linear)"),
        ("evaluate", "--device DEVICE auto, cpu or cuda. (one of 'auto', 'cpu', 'cuda', default: auto)"),
        ("evaluate", "made. (Path)"),
        ("pretrain", "--method-options.NAME VALUE the method's own options; `sslfast list methods --name METHOD`"),
        ("pretrain", "--channels-last [true|false] memory layout of images and convolutions; on. --seed"),
        ("pretrain", "--epochs EPOCHS passes over the data; 200. (int)"),
    ],
)
def test_help_says_how_values_are_typed(command: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Switches that are on looked as if they could not be turned off, and lists were shown as Python's tuples."""
    main([command, "--help"])
    assert words in " ".join(capsys.readouterr().out.split())


def test_a_terminal_that_knows_ascii_only() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sslfast", "list", "data", "--name", "folder"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii:strict", "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"<class>/?/a.jpg" in done.stdout


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"epochs: 3\nmethod: simclr\nepochs: 5\n", "has 'epochs' in line 1 and in line 3; keep one"),
        (b"method_options:\n  temperature: 1\n  temperature: 2\n", "has 'temperature' in line 2 and in line 3"),
        (
            b"method: simclr\n\tdata: shapes\n",
            r"line 2, column 1 is not YAML: .*cannot start any token; indent with spaces",
        ),
        (b"method: *no\n", r"line 1, column 9 is not YAML: found undefined alias"),
        (b"\xff\xfe\x00", "is no text in UTF-8"),
        (b"", "is empty; it needs lines such as"),
        (b"method = simclr\n", "holds no options"),
        (b"- method\n- data\n", "holds no options"),
    ],
)
def test_config_file_that_is_none(
    content: bytes, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of two values for one name the last was taken without a word; the other messages did not name the file."""
    file = tmp_path / "own.yaml"
    file.write_bytes(content)
    for typed in (["--config", str(file)], [f"--config={file}"]):
        message = fails(capsys, ["pretrain", *typed], code=2)
        assert re.search(f"the config file {file}.*{words}", message), message
        assert len(message.splitlines()) == 1


def test_help_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "export"]) == 0
    assert "usage: sslfast export" in capsys.readouterr().out
    assert main(["help"]) == 0
    assert "usage: sslfast COMMAND" in capsys.readouterr().out


def test_bytes_that_are_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    """As `sys.argv` holds them; a folder of that name broke the run in the middle."""
    message = fails(capsys, ["pretrain", "--out", os.fsdecode(b"run \xff")], code=2)
    assert "run \\xff" in message
    assert "rename" in message


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError("std::bad_alloc"), "the memory is full .*lower the batch size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"), "memory is full"),
        (torch.OutOfMemoryError("CUDA out of memory.\nlong"), "the memory is full .CUDA out of memory"),
        (PermissionError(13, "Permission denied", "/locked"), "/locked: Permission denied; --traceback"),
        (BrokenPipeError(32, "Broken pipe"), "Broken pipe; --traceback"),  # of processes, not that of the output
    ],
)
def test_the_machine_s_limits_are_told_in_a_line(
    error: Exception, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("sslfast.info.print_info", fail)
    message = fails(capsys, ["info"], code=1)
    assert re.search(words, message)
    assert len(message.splitlines()) == 1
    with pytest.raises(type(error)):
        main(["info", "--traceback"])
    monkeypatch.setattr("sslfast.info.print_info", lambda: [][0])
    with pytest.raises(IndexError):
        main(["info"])


def test_a_reader_that_has_seen_enough() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    typed = [sys.executable, "-m", "sslfast", "list", "methods"]
    done = subprocess.run(
        typed, stdout=writer, stderr=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"}, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_warning_is_a_line_without_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def warn() -> None:
        for file in (registry.__file__, torch.__file__):
            print(warnings.formatwarning("skipped 1 of 8", UserWarning, file, 7), end="")

    before = warnings.formatwarning
    monkeypatch.setattr("sslfast.info.print_info", warn)
    assert main(["info"]) == 0
    own, foreign = capsys.readouterr().out.splitlines()
    assert own == "sslfast: warning: skipped 1 of 8"
    assert foreign == f"{torch.__file__}:7: UserWarning: skipped 1 of 8"
    assert warnings.formatwarning is before
