"""Pages: one self-contained HTML file each, made from a template of this room or of another."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from sslfast.train.checkpoint import write_atomically

BASE = "sslfast.report"  # the package with base.html.jinja, which every template extends


def write_page(target: Path, package: str, template: str, content: Mapping[str, Any]) -> Path:
    """Fills a template and writes the page in one step: readers see the old page or the new one, never half of one.

    Args:
        target: the HTML file; its folder exists.
        package: where the template lies, as "sslfast.report".
        template: its file name.
        content: the template's variables, `written` (the time) apart; all that it uses must be there.

    Returns:
        `target`.

    Raises:
        TrainingError: the page cannot be written.
    """
    loader = ChoiceLoader([PackageLoader(name, ".") for name in dict.fromkeys((package, BASE))])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    written = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    text = environment.get_template(template).render(content, written=written)
    # A class named after a folder may hold bytes that are no text.
    write_atomically(target, text.encode(errors="replace"), cure="free some space or make it writable")
    return target
