"""The command line: every command calls one public function whose signature is its list of options."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import inspect
import os
import re
import select
import sys
import typing
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonargparse

from sslfast.errors import UserError
from sslfast.options import check_config
from sslfast.registry import nearest

# Modules are imported when their command runs: `sslfast --help` must not wait for torch.
COMMANDS = {
    "quickstart": ("sslfast.quickstart:quickstart", "pretrain and evaluate on the embedded data set, in minutes"),
    "pretrain": ("sslfast.train:pretrain", "pretrain a backbone; leaves a run folder"),
    "evaluate": ("sslfast.evaluate:evaluate", "measure the backbone of a run folder against baselines"),
    "report": ("sslfast.report:write_report", "write the HTML report of a run folder"),
    "reproduce": ("sslfast.reproduce:reproduce", "measure a published table again; leaves a page with both numbers"),
    "bench": ("sslfast.bench:bench", "measure speed and memory beside other libraries"),
    "list": ("sslfast.info:print_names", "names of methods, data, protocols, backbones, presets or reproductions"),
    "export": ("sslfast.export:export", "save the backbone of a run folder for other libraries"),
    "info": ("sslfast.info:print_info", "what was built and what was found on this machine"),
}
COMMON_OPTIONS = ("help", "config", "print_config")
# What other libraries call our options.
FAMILIAR = {
    **dict.fromkeys(("lr", "base_lr"), "learning_rate"),
    **dict.fromkeys(("wd",), "weight_decay"),
    **dict.fromkeys(("bs", "batch"), "batch_size"),
    **dict.fromkeys(("dataset",), "data"),
    **dict.fromkeys(("data_dir", "data_path", "dataset_path", "train_dir"), "root"),
    **dict.fromkeys(("model", "arch", "encoder", "network"), "backbone"),
    **dict.fromkeys(("gpus", "num_gpus", "ngpus"), "devices"),
    **dict.fromkeys(("output", "output_dir", "out_dir", "save_dir", "log_dir"), "out"),
    **dict.fromkeys(("size", "img_size", "resolution", "input_size"), "image_size"),
    **dict.fromkeys(("max_epochs", "num_epochs"), "epochs"),
}
SWITCH = dict.fromkeys(("true", "yes", "on", "1"), "true") | dict.fromkeys(("false", "no", "off", "0"), "false")
USAGE = """usage: sslfast COMMAND [options]

The fast backend and complete workbench for self-supervised learning on images.

commands:
{commands}

`sslfast COMMAND --help` lists a command's options. Every command takes `--config FILE.yaml` with any of them, where
names have underscores; when typed, dashes and underscores are the same.
`--traceback` (or SSLFAST_TRACEBACK=1) shows where an error arose.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code: 0, 2 for a wrong name or option, 1 for other errors."""
    if "OMP_WAIT_POLICY" not in os.environ:
        # Read when torch is loaded. A thread of torch that has no work looks for it 300,000 times before it sleeps:
        # milliseconds of a core that the decoders of images need. 5,000 times still bridge the pauses within a step.
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    arguments = list(sys.argv[1:] if argv is None else argv)
    traceback = "--traceback" in arguments or os.environ.get("SSLFAST_TRACEBACK", "0") not in ("", "0")
    arguments = [argument for argument in arguments if argument != "--traceback"]
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:2], "--help"]
    with contextlib.suppress(AttributeError):  # closed, or a notebook's
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal that knows ASCII only
    format_warning, warnings.formatwarning = warnings.formatwarning, _one_line
    try:
        _check_text(arguments)
        if not arguments or arguments[0] in ("-h", "--help"):
            print(USAGE.format(commands="\n".join(f"  {name:<11} {text}" for name, (_, text) in COMMANDS.items())))
        elif arguments[0] == "--version":
            print(importlib.import_module("sslfast").__version__)
        else:
            run(arguments[0], arguments[1:])
    except UserError as error:
        if traceback:
            raise
        print(f"sslfast: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("sslfast: interrupted", file=sys.stderr)
        return 130
    except SystemExit as stop:  # the parser's, after --help and --print-config
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
            return 1
        return int(stop.code or 0)
    except (MemoryError, RuntimeError, OSError) as error:
        if isinstance(error, BrokenPipeError) and _reader_has_gone():  # one such as `head` has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        message = _from_outside(error)
        if traceback or message is None:
            raise
        print(f"sslfast: {message}", file=sys.stderr)
        return 1
    finally:
        warnings.formatwarning = format_warning
    return 0


def _one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning to the user, without the line of code that gives it; others are for who wrote the code."""
    if category is UserWarning and Path(filename).is_relative_to(Path(__file__).parent):
        return f"sslfast: warning: {message}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n"


def _check_text(arguments: Sequence[str]) -> None:
    """Raises UserError for bytes that are no text: no file that keeps an option could hold them."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError as error:  # noqa: PERF203 - the first one ends it
            raise UserError(
                f"{os.fsencode(argument)!r} is no text in {sys.getfilesystemencoding()}; rename the file or folder, or "
                "set LC_ALL=C.UTF-8 if its name is one in UTF-8"
            ) from error


def _reader_has_gone() -> bool:
    """Whether standard output is a pipe that nobody reads any more; other pipes, between processes, break too."""
    try:
        output = sys.stdout.fileno()
    except (AttributeError, ValueError):  # none, or a notebook's
        return False
    poll = select.poll()
    poll.register(output, 0)
    return bool(poll.poll(0))


def _from_outside(error: Exception) -> str | None:
    """What to say of an error whose cause is the machine, such as full memory; None for any other."""
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror or error}; --traceback shows where this arose"
    text = str(error).partition("\n")[0]
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
        return f"the memory is full ({text or 'no reason given'}); lower the batch size, the image size or the limits"
    return None


def run(command: str, arguments: Sequence[str]) -> None:
    """Runs `command` with the options as typed.

    Raises:
        UserError: no such command or option, or a value of the wrong type.
    """
    if command.startswith("-"):
        raise UserError(
            f"{command!r} stands before the command; write `sslfast COMMAND [options]`, see `sslfast --help`"
        )
    if command not in COMMANDS:
        raise UserError(f"unknown command {command!r}; {nearest(command, list(COMMANDS))}")
    module, _, attribute = COMMANDS[command][0].partition(":")
    function = getattr(importlib.import_module(module), attribute)
    parser, options, spread = build_parser(command, function)
    typed = normalize(arguments, options)
    for file in _config_files(typed):
        check_config(file)
    try:
        values = parser.parse_args(typed).as_dict()
    except jsonargparse.ArgumentError as error:
        raise UserError(_explain(command, str(error), list(options))) from error
    keywords = {name: values[name] for name in inspect.signature(function).parameters if name not in spread}
    for name, type_ in spread.items():
        keywords[name] = type_(**{field.name: values[field.name] for field in dataclasses.fields(type_)})
    show(function(**keywords))


def build_parser(
    command: str, function: Callable[..., object]
) -> tuple[jsonargparse.ArgumentParser, dict[str, Any], dict[str, Any]]:
    """The parser of a command: `function`'s parameters, those without a default by position.

    Returns:
        The parser; the type of each option; the dataclasses among the parameters, whose fields are options.
    """
    summary = COMMANDS[command][1]
    parser = jsonargparse.ArgumentParser(
        prog=f"sslfast {command}",
        description=f"{summary[0].upper()}{summary[1:]}.",
        formatter_class=_Formatter,
        exit_on_error=False,
    )
    parser.add_argument("--config", action="config", help="YAML file with any of these options")
    hints = typing.get_type_hints(function)
    parameters = inspect.signature(function).parameters
    spread = {name: hints[name] for name in parameters if dataclasses.is_dataclass(hints[name])}
    for type_ in spread.values():
        parser.add_class_arguments(type_, as_group=False)
    parser.add_function_arguments(function, as_group=False, as_positional=True, skip=set(spread))
    positional = [
        name for name in parameters if parameters[name].default is inspect.Parameter.empty and name not in spread
    ]
    parser.usage = " ".join(("%(prog)s", *(name.upper() for name in positional), "[options]"))
    options = {name: hints[name] for name in parameters if name not in (*positional, *spread)}
    for type_ in spread.values():
        options |= typing.get_type_hints(type_)
    return parser, options, spread


def show(result: object) -> None:
    """Prints what a command returns: the file or folder that it wrote, or the rows that it measured."""
    if isinstance(result, Path):
        print(result)
    elif isinstance(result, list):
        importlib.import_module("sslfast.evaluate.table").print_rows(result)


def normalize(arguments: Sequence[str], options: dict[str, Any]) -> list[str]:
    """Options as typed -> as the parser reads them: `--label-fractions 0.01,1` -> `--label_fractions=[0.01,1]`.

    Args:
        arguments: as typed.
        options: the type of each option.

    Raises:
        UserError: an option that is not in `options` (the message lists the nearest ones), or one without a value.
    """
    result: list[str] = []
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        if not argument.startswith("--"):
            result.append(argument)
            continue
        typed, equals, value = argument.partition("=")
        key = typed[2:].replace("-", "_")
        name = key.partition(".")[0]
        if name in COMMON_OPTIONS:
            result.append(f"--{key}{equals}{value}")
            continue
        if name not in options:
            known = _dashed([*options, *COMMON_OPTIONS])
            ours = "".join(_dashed([FAMILIAR[name]])) if FAMILIAR.get(name) in options else typed
            raise UserError(f"unknown option {typed!r}; {nearest(ours, [ours] if ours in known else known)}")
        if not equals:
            if options[name] is bool:
                value = SWITCH[waiting.pop(0).lower()] if waiting and waiting[0].lower() in SWITCH else "true"
            elif not waiting or waiting[0].startswith("--"):
                raise UserError(f"option {typed!r} needs a value")
            else:
                value = waiting.pop(0)
        if _is_sequence(options[name]) and not value.startswith("["):
            value = f"[{value}]"
        result.append(f"--{key}={value}")
    return result


def _config_files(typed: Sequence[str]) -> Iterator[Path]:
    """The files that `--config` names, in either form."""
    for place, argument in enumerate(typed):
        name, equals, value = argument.partition("=")
        if name == "--config" and (equals or typed[place + 1 :]):
            yield Path(value if equals else typed[place + 1])


class _Formatter(jsonargparse.DefaultHelpFormatter):
    """Help with dashes in the options' names, and types and values as they are typed."""

    def _expand_help(self, action: argparse.Action) -> str:
        text = _plain(super()._expand_help(action))
        parts = re.fullmatch(r"(.*) \((?:required, )?type: (.*?)(?:, default: (.*))?\)", text, flags=re.DOTALL)
        if parts is None:
            return text
        kind = re.sub(r"^Optional\[(.*)\]$| \| null$", r"\1", parts[2])
        default = "" if parts[3] in (None, "null", "()") else parts[3]
        if default.startswith("("):
            default = ",".join(re.findall(r"[^\s'(),]+", default))
        notes = [] if kind == "bool" or kind.startswith("dict") else [re.sub(r"^\w+\[(\w+)\]$", r"\1,\1,...", kind)]
        notes += [f"default: {default.lower() if kind == 'bool' else default}"] if default else []
        return f"{parts[1]} ({', '.join(notes)})" if notes else parts[1]

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return action.dest.upper()
        if action.dest in ("help", "print_config"):
            return super()._format_action_invocation(action).replace("_", "-")
        kind = self._get_type_str(action) or ""
        value = ".NAME VALUE" if "dict" in kind else " [true|false]" if "bool" in kind else f" {action.dest.upper()}"
        return _dashed([action.dest])[0] + value


def _is_sequence(type_: Any) -> bool:
    """Whether `type_` is a list, tuple or Sequence, perhaps or None."""
    kinds = (type_, *typing.get_args(type_)) if type(None) in typing.get_args(type_) else (type_,)
    return any(typing.get_origin(kind) in (list, tuple, Sequence) for kind in kinds)


def _dashed(options: Iterable[str]) -> list[str]:
    return ["--" + option.replace("_", "-") for option in options]


def _plain(text: str) -> str:
    text = re.sub(r"(?:typing\.)?Literal\[(.*?)\]", r"one of \1", text).replace("Expected a", "expected")
    return re.sub(r"<class '([\w.]+)'>", r"\1", text)


def _explain(command: str, message: str, options: list[str]) -> str:
    """The parser's message on one line, in the words of the command line."""
    message = _plain(" ".join(message.split()))
    if missing := re.search(r"arguments are required: (.*)", message):
        return f"{command} needs {missing[1].upper()}; `sslfast {command} --help` says what it is"
    if surplus := re.search(r"unrecognized arguments: (.*)", message, flags=re.IGNORECASE):
        dashes = "; options begin with two dashes" if surplus[1].startswith("-") else ""
        return (
            f"{command} does not take {surplus[1]!r}{dashes}; the values of a list are joined by commas, without spaces"
            f"; `sslfast {command} --help` lists what it takes"
        )
    if unknown := re.search(r"Option '(\S+)' is not accepted", message):
        return f"unknown option {unknown[1]!r} in the config file; {nearest(unknown[1], options)}"
    if mapping := re.search(r'Parser key "(\S+)":.*expected dict', message):
        option = _dashed([mapping[1]])[0]
        return f"option {option!r} takes names and values; write `{option}.NAME VALUE`, once for each"
    if union := re.search(r'Parser key "(\S+)".* Errors: (.*) Given value type: \w+ Given value:\s?(.*)', message):
        kinds = [kind for kind in re.findall(r"expected (.*?)(?:\. Got value| - |$)", union[2]) if kind != "NoneType"]
        return f"option {_dashed([union[1]])[0]!r}: expected {' or '.join(kinds)}, got {union[3]!r}"
    message = re.sub(r'Parser key "(\S+)":', lambda key: f"option {_dashed([key[1]])[0]!r}:", message)
    return message.replace(". Got value:", ", got")
