"""Loads the compiled op libraries: _C always, _C_cuda where it was built and torch has CUDA."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

import torch


def find(name: str) -> Path | None:
    """Where compiled library `name` ("_C" or "_C_cuda") lies, or None when it was not built."""
    spec = importlib.util.find_spec(f"sslfast.{name}")
    return Path(spec.origin) if spec is not None and spec.origin else None


@cache
def load() -> dict[str, str]:
    """Loads what can be loaded, once; returns "loaded", or the reason why not, by library.

    Raises:
        ImportError: the CPU library is missing or cannot be loaded.
    """
    status = {}
    library = find("_C")
    if library is None:
        raise ImportError("sslfast's compiled library _C is missing; install the package with 'pip install .'")
    torch.ops.load_library(library)
    status["_C"] = "loaded"
    library = find("_C_cuda")
    if library is None:
        status["_C_cuda"] = "not built: nvcc was not found when sslfast was installed"
    elif torch.version.cuda is None:
        status["_C_cuda"] = "not loaded: this torch was built without CUDA"
    else:
        try:
            torch.ops.load_library(library)
            status["_C_cuda"] = "loaded"
        except OSError as error:
            status["_C_cuda"] = f"not loaded: {error}"
    return status
