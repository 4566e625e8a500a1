"""What this machine's Python lacks of what sslfast, its build and its tests need: names them, and exits with 1.

    python -m benchmarks.server.packages

Peers of the benchmarks and DALI are not asked for: what they would do is left out.
"""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from pathlib import Path

if sys.version_info < (3, 11):
    raise SystemExit("this needs Python 3.11 or later, whose library reads pyproject.toml")
import tomllib

ROOT = Path(__file__).parent.parent.parent
NOT_FOR_RUNNING = {"ruff", "clang-format", "mypy", "types-pyyaml"}
MODULES = {"pillow": "PIL", "scikit-learn": "sklearn", "pyyaml": "yaml", "pytest-benchmark": "pytest_benchmark"}
BEHIND_EXTRAS = {"jsonargparse": ("docstring_parser", "typeshed_client")}  # its "signatures"


def missing() -> list[str]:
    """Modules that cannot be found, by the requirements in pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = (project["build-system"]["requires"], project["project"]["dependencies"])
    wanted: dict[str, None] = {}
    for requirement in (*groups[0], *groups[1], *project["project"]["optional-dependencies"]["test"]):
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower()
        if name not in NOT_FOR_RUNNING:
            wanted |= dict.fromkeys((MODULES.get(name, name.replace("-", "_")), *BEHIND_EXTRAS.get(name, ())))
    return [module for module in wanted if find_spec(module) is None]


if __name__ == "__main__":
    found = missing()
    print(f"missing: {', '.join(found)}" if found else "all there")
    sys.exit(1 if found else 0)
