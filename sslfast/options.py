"""Options: whether a configuration file can be read, and whether a value fits an annotation."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from sslfast.errors import UserError

PLAIN = {
    str: ("text", "texts"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "true or false"),
    types.NoneType: ("null", "nulls"),
}


def check_config(path: Path, what: str = "config file") -> None:
    """Raises UserError unless a file is YAML that gives names their values, each name once.

    YAML itself keeps the last of several values without a word. `what` is what messages call the file.
    """
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise UserError(f"cannot read the {what} {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"the {what} {path} is no text in UTF-8; give a YAML file") from error
    except yaml.YAMLError as error:
        mark, reason = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UserError(f"the {what} {path}{where} is not YAML: {reason or error}; indent with spaces") from error
    if not isinstance(node, yaml.MappingNode):
        found = "is empty" if node is None else "holds no options"
        raise UserError(f"the {what} {path} {found}; it needs lines such as `epochs: 100`")
    _check_unique(node, f"the {what} {path}")


def _check_unique(node: yaml.MappingNode, file: str) -> None:
    """Raises UserError where a mapping, or one inside it, has a name twice."""
    lines: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if str(key.value) in lines:
            raise UserError(
                f"{file} has {str(key.value)!r} in line {lines[str(key.value)]} and in line {line}; keep one of them"
            )
        lines[str(key.value)] = line
        if isinstance(value, yaml.MappingNode):
            _check_unique(value, file)


def check_types(function: Callable[..., Any], options: Mapping[str, Any], owner: str) -> None:
    """Raises UserError where the value of an option does not fit the annotation of that parameter of `function`."""
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError):  # a user's own: annotations for type checkers alone, or an object to be called
        return
    for name, value in options.items():
        hint = hints.get(name, Any)
        if not fits(value, hint):
            raise UserError(f"option {name}={value!r} of {owner} must be {described(hint)}{number_hint(value)}")


def fits(value: Any, hint: Any) -> bool:
    """Whether `value` is of `hint`: plain types, their unions, lists and mappings of them, or one of some values.

    Whole numbers are numbers, too. Anything fits a hint that is made of other types.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        return any(fits(value, kind) for kind in arguments)
    if origin is Literal:
        return value in arguments
    if origin in (list, Sequence):
        if isinstance(value, (list, tuple)):
            return all(fits(entry, arguments[0]) for entry in value)
        return isinstance(value, Iterable) and not isinstance(value, (str, Mapping))
    if origin in (dict, Mapping):
        entries = value.items() if isinstance(value, Mapping) else [(None, None)]
        return all(fits(key, arguments[0]) and fits(entry, arguments[1]) for key, entry in entries)
    if hint is float:
        return type(value) in (int, float)
    return type(value) is hint if hint in PLAIN else True


def described(hint: Any, many: bool = False) -> str:
    """A hint in the words of who writes YAML or a command; whether it may be left out is not said."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, types.UnionType):
        kinds = arguments if many else [kind for kind in arguments if kind is not types.NoneType]
        return " or ".join(described(kind, many) for kind in kinds)
    if origin in (list, Sequence):
        return f"{'lists' if many else 'a list'} of {described(arguments[0], many=True)}"
    if origin in (dict, Mapping):
        return f"{'mappings' if many else 'a mapping'} of names to {described(arguments[1], many=True)}"
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if hint in PLAIN:
        return PLAIN[hint][many]
    return "values" if hint is Any else "mappings" if many else "a mapping"


def number_hint(value: Any) -> str:
    """How YAML reads `value`, a text such as "1e-3", as the number it was meant to be; nothing for anything else."""
    try:
        number = float(value) if isinstance(value, str) else None
    except ValueError:
        number = None
    if number is None:
        return ""
    written = yaml.safe_dump(int(number) if number.is_integer() else number).split()[0]
    return f"; YAML reads this as text, write {written}"
