"""Pages: one self-contained HTML file each, made from a template of this room or of another."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from sslfast.errors import TrainingError

BASE = "sslfast.report"  # the package with base.html.jinja, which every template extends


def write_page(target: Path, package: str, template: str, content: Mapping[str, Any]) -> Path:
    """Fills a template and writes the page in one step: readers see the old page or the new one, never half of one.

    Args:
        target: the HTML file; its folder exists.
        package: where the template lies, as "sslfast.report".
        template: its file name.
        content: the template's variables; all that it uses must be there.

    Returns:
        `target`.

    Raises:
        TrainingError: the page cannot be written.
    """
    loader = ChoiceLoader([PackageLoader(name, ".") for name in dict.fromkeys((package, BASE))])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    text = environment.get_template(template).render(content)
    unfinished = target.with_name(f".{target.name}.part")
    try:
        # A class named after a folder may hold bytes that are no text.
        unfinished.write_text(text, encoding="utf-8", errors="replace")
        os.replace(unfinished, target)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise TrainingError(f"cannot write {target}: {error.strerror}; free some space or make it writable") from error
    return target
