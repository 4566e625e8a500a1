"""The command line: every command calls one public function whose signature is its list of options."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import os
import re
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jsonargparse

from sslfast.errors import UserError
from sslfast.registry import nearest

# Modules are imported when their command runs: `sslfast --help` must not wait for torch.
COMMANDS = {
    "quickstart": ("sslfast.quickstart:quickstart", "pretrain and evaluate on the embedded data set, in minutes"),
    "pretrain": ("sslfast.train:pretrain", "pretrain a backbone; leaves a run folder"),
    "evaluate": ("sslfast.evaluate:evaluate", "measure the backbone of a run folder against baselines"),
    "report": ("sslfast.report:write_report", "write the HTML report of a run folder"),
    "bench": ("sslfast.bench:bench", "measure speed and memory beside other libraries"),
    "list": ("sslfast.info:print_names", "names of methods, data, protocols, backbones or presets"),
    "export": ("sslfast.export:export", "save the backbone of a run folder for other libraries"),
    "info": ("sslfast.info:print_info", "what was built and what was found on this machine"),
}
GLOBAL_OPTIONS = ("help", "traceback")
USAGE = """usage: sslfast COMMAND [options]

The fast backend and complete workbench for self-supervised learning on images.

commands:
{commands}

`sslfast COMMAND --help` lists a command's options. Every command takes `--config FILE.yaml` with any of them;
dashes and underscores are the same in their names. `--traceback` (or SSLFAST_TRACEBACK=1) shows where an error arose.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code: 0, 2 for a wrong name or option, 1 for other errors."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    traceback = "--traceback" in arguments or os.environ.get("SSLFAST_TRACEBACK", "0") not in ("", "0")
    arguments = [argument for argument in arguments if argument != "--traceback"]
    try:
        if not arguments or arguments[0] in ("-h", "--help", "help"):
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
    return 0


def run(command: str, arguments: Sequence[str]) -> None:
    """Runs `command` with the options as typed.

    Raises:
        UserError: no such command or option, or a value of the wrong type.
    """
    if command not in COMMANDS:
        raise UserError(f"unknown command {command!r}; {nearest(command, list(COMMANDS))}")
    target, summary = COMMANDS[command]
    module, _, attribute = target.partition(":")
    function = getattr(importlib.import_module(module), attribute)
    parser = _Parser(prog=f"sslfast {command}", description=summary[0].upper() + summary[1:] + ".", exit_on_error=False)
    parser.add_argument("--config", action="config", help="YAML file with any of these options")
    function_types = typing.get_type_hints(function)
    types: dict[str, Any] = {}
    for name in inspect.signature(function).parameters:
        # A dataclass is spread: its fields are options of the command.
        fields = _field_types(function_types[name])
        types.update(fields or {name: function_types[name]})
        if fields:
            parser.add_class_arguments(function_types[name], as_group=False)
    spread = {name for name in inspect.signature(function).parameters if name not in types}
    parser.add_function_arguments(function, as_group=False, as_positional=True, skip=spread)
    try:
        values = parser.parse_args(normalize(arguments, types))
    except jsonargparse.ArgumentError as error:
        raise UserError(f"{command}: {_explain(str(error), list(types))}") from error
    keywords = {
        name: function_types[name](**{field: values[field] for field in _field_types(function_types[name])})
        if name in spread
        else values[name]
        for name in inspect.signature(function).parameters
    }
    function(**keywords)


def normalize(arguments: Sequence[str], types: dict[str, Any]) -> list[str]:
    """Options as typed -> as the parser reads them: `--label-fractions 0.01,1` -> `--label_fractions=[0.01,1]`.

    Raises:
        UserError: an option that is not in `types`; the message lists the nearest ones.
    """
    result: list[str] = []
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        if not argument.startswith("--") or argument == "--":
            result.append(argument)
            continue
        key, equals, value = argument[2:].partition("=")
        key = key.replace("-", "_")
        root = key.partition(".")[0]
        if root in ("help", "config", "print_config"):
            result.append(f"--{key}{equals}{value}")
            continue
        if root not in types:
            raise UserError(f"unknown option '--{key.replace('_', '-')}'; {_nearest_options(root, list(types))}")
        if not equals:
            if types[root] is bool and (not waiting or waiting[0].lower() not in ("true", "false")):
                value = "true"
            elif waiting and (not waiting[0].startswith("--")):
                value = waiting.pop(0)
            else:
                raise UserError(f"option '--{key.replace('_', '-')}' needs a value")
        if _is_sequence(types[root]) and not value.startswith(("[", "(", "null")):
            value = f"[{value}]"
        result.append(f"--{key}={value}")
    return result


class _Parser(jsonargparse.ArgumentParser):
    """Prints options with dashes and types by their plain names."""

    def format_help(self) -> str:
        text = re.sub(r", --\w+\+ \[ITEM,\.\.\.\]", "", super().format_help())
        return _plain(re.sub(r"--[a-z_]+", lambda option: option[0].replace("_", "-"), text))


def _field_types(type_: Any) -> dict[str, Any]:
    if not (isinstance(type_, type) and dataclasses.is_dataclass(type_)):
        return {}
    hints = typing.get_type_hints(type_)
    return {field.name: hints[field.name] for field in dataclasses.fields(type_)}


def _is_sequence(type_: Any) -> bool:
    origin = typing.get_origin(type_)
    if origin in (list, tuple, Sequence):
        return True
    return any(_is_sequence(part) for part in typing.get_args(type_)) if origin is not dict else False


def _nearest_options(name: str, options: list[str]) -> str:
    return nearest("--" + name.replace("_", "-"), ["--" + option.replace("_", "-") for option in options])


def _plain(text: str) -> str:
    text = re.sub(r"typing\.Literal\[(.*?)\]", r"one of \1", text)
    return re.sub(r"<class '([\w.]+)'>", r"\1", text)


def _explain(message: str, options: list[str]) -> str:
    """The parser's message on one line, in the words of the command line."""
    message = _plain(" ".join(message.split()))
    unknown = re.search(r"Option '(\w+)' is not accepted", message)
    if unknown:
        return f"unknown option {unknown[1]!r} in the config file; {nearest(unknown[1], options)}"
    message = re.sub(r'Parser key "(\S+)":', lambda key: f"option '--{key[1].replace('_', '-')}':", message)
    return message.replace("Expected a", "expected").replace("Got value:", "got")
