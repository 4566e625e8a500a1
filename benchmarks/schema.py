"""What a file of results holds, field by field; files are written and read through here.

Seconds are medians with quartiles, sizes are bytes, rates are units of the case a second. A row was measured, or says
in `skipped` (not installed) or `failed` why not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sslfast.errors import UserError
from sslfast.train.checkpoint import write_atomically

NUMBER = (int, float)
MAYBE_TEXT = (str, type(None))
Fields = dict[str, Any]

RESULT: Fields = {"suite": str, "date": str, "machine": dict, "floor": dict, "torch": str, "sslfast": str, "rows": list}
MACHINE: Fields = {"name": str, "cpu": str, "cores": int, "threads": int, "memory_bytes": int, "gpu": MAYBE_TEXT}
FLOOR: Fields = {"copy_bytes_per_second": NUMBER, "matrix_flops_per_second": NUMBER}
ROW: Fields = {
    **{"op": str, "case": str, "contender": str, "settings": dict, "unit": str, "axis": str},
    **{"least_bytes": NUMBER, "least_flops": NUMBER, "date": str, "torch": str, "threads": int},
}
MEASURED: Fields = {
    **{"version": str, "peak_extra_bytes": (int, type(None)), "floor_seconds": NUMBER, "calls": int},
    **{"seconds": NUMBER, "seconds_q1": NUMBER, "seconds_q3": NUMBER, "per_second": NUMBER},
}
OPTIONAL: Fields = {"count": NUMBER, "parts": dict}
NOT_MEASURED: Fields = {"skipped": str, "failed": str}


def faults(result: Any) -> Iterator[str]:
    """What differs from the schema, a sentence each."""
    if not isinstance(result, dict):
        yield "it is no object"
        return
    yield from _faults(result, RESULT, {}, "the file")
    for name, fields in (("machine", MACHINE), ("floor", FLOOR)):
        if isinstance(result.get(name), dict):
            yield from _faults(result[name], fields, {}, name)
    for position, row in enumerate(result.get("rows") or []):
        where = f"row {position}"
        if not isinstance(row, dict):
            yield f"{where} is no object"
        elif row.keys() & NOT_MEASURED.keys():
            yield from _faults(row, ROW, MEASURED | OPTIONAL | NOT_MEASURED, where)
        else:
            yield from _faults(row, ROW | MEASURED, OPTIONAL, where)


def _faults(values: dict[str, Any], required: Fields, optional: Fields, where: str) -> Iterator[str]:
    for name in sorted(required.keys() - values.keys()):
        yield f"{where} lacks {name!r}"
    for name, value in values.items():
        if (kind := required.get(name, optional.get(name))) is None:
            yield f"{where} has an unknown field {name!r}"
        elif not isinstance(value, kind) or isinstance(value, bool):
            yield f"{where}: {name!r} is {value!r}"


def read(file: Path) -> dict[str, Any]:
    """The results in `file`.

    Raises:
        UserError: the file is missing or holds something else.
    """
    try:
        result = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read results from {file}: {error}") from error
    if fault := next(faults(result), None):
        raise UserError(f"{file} holds no results of `sslfast bench`: {fault}; move it away or name another file")
    return dict(result)


def write(file: Path, result: dict[str, Any]) -> None:
    """Writes the results, whole or not at all.

    Raises:
        ValueError: they differ from the schema.
        TrainingError: the file cannot be written.
    """
    if fault := next(faults(result), None):
        raise ValueError(f"not a result: {fault}")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, (json.dumps(result, indent=1) + "\n").encode(), cure="name another file with --out")


def library_of(contender: str) -> str:
    """The library of a contender, without its setting."""
    return contender.partition(",")[0]
