"""sslfast: the fast backend and complete workbench for self-supervised learning on images.

`import sslfast` imports nothing else, torch included; a part is imported when it is first used, as `sslfast.losses` or
by `from sslfast import losses`:

    augment    views of whole batches, the papers' presets, transforms
    losses     of embeddings, with lightly's names and signatures
    ops        tensor functions behind them, on CPU and CUDA
    methods    whole methods, and how to build them
    models     backbones, heads, momentum encoders
    data       images as one batch, sources, loaders
    train, evaluate, report, export, reproduce    what the command line calls
    compat     other libraries' names and signatures
    errors     what bad input raises
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what `__getattr__` imports
    from sslfast import (
        augment,
        compat,
        data,
        errors,
        evaluate,
        export,
        losses,
        methods,
        models,
        ops,
        report,
        reproduce,
        train,
    )

# In a checkout the sources come from here and the compiled libraries from the installed package, wherever Python runs.
__path__ = pkgutil.extend_path(__path__, __name__)

__version__ = "0.1.0"

__all__ = [
    "augment",
    "compat",
    "data",
    "errors",
    "evaluate",
    "export",
    "losses",
    "methods",
    "models",
    "ops",
    "report",
    "reproduce",
    "train",
]


def __getattr__(name: str) -> Any:
    """Imports a part of the package when it is first used."""
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; its parts are {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
