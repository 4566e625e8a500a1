"""What exists by name, and what was built and found on this machine."""

from __future__ import annotations

import importlib.metadata
import inspect
import os
import platform

import torch

import sslfast
from sslfast import _host, _libraries, registry
from sslfast.errors import UserError

DALI = ("nvidia-dali-cuda120", "nvidia-dali-cuda130")
MISSING = "not installed"


def names(kind: str) -> dict[str, str]:
    """Every registered name of a kind, with the first sentence of its documentation.

    Args:
        kind: methods, data, protocols, backbones, presets or reproductions.

    Raises:
        UserError: no such kind.
    """
    if kind == "reproductions":
        from sslfast.reproduce.recipe import find_recipe, read_recipe

        return {name: read_recipe(find_recipe(name)).title for name in registry.REPRODUCTIONS}
    if kind not in registry.TABLES:
        raise UserError(f"unknown list {kind!r}; {registry.nearest(kind, [*registry.TABLES, 'reproductions'])}")
    return {name: _first_line(registry.resolve(kind, name)) for name in registry.TABLES[kind]}


def print_names(kind: str, name: str | None = None) -> None:
    """Prints `names(kind)`, one a line, or all that one of them says of itself.

    Args:
        kind: methods, data, protocols, backbones, presets or reproductions.
        name: one of them, or a class of your own; its whole documentation with its own options.

    Raises:
        UserError: no such kind or name.
    """
    if name is not None and kind in registry.TABLES:
        print(inspect.getdoc(registry.resolve(kind, name)) or f"{name} has no documentation")
        return
    table = names(kind)
    if name is not None:
        raise UserError(f"{kind} have no options of their own; leave --name out")
    width = max(map(len, table))
    for name, text in table.items():
        print(f"{name:<{width}}  {text}")
    if kind == "backbones":
        print("\nEvery model name of timm works too, for example vit_tiny_patch16_224.")


def _first_line(target: object) -> str:
    return (inspect.getdoc(target) or "").partition("\n")[0]


def info() -> dict[str, str]:
    """What this sslfast contains and what it finds on this machine: topic -> one line of text."""
    try:
        status, build = _libraries.load(), _host.build_info()
    except RuntimeError as error:  # SSLFAST_CPU_ISA names what the processor has not
        raise UserError(str(error)) from error
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "sslfast": f"{sslfast.__version__}, compiled with {build['compiler']}",
        "CPU kernels": f"{status['_C']}; compiled for {build['isas']}; in use: {build['active_isa']}",
        "CUDA kernels": f"{status['_C_cuda']}"
        + (f"; compiled for {build['cuda_architectures']} with {build['cuda_compiler']}" if build["cuda"] else ""),
        "processor": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads in use",
        "GPUs": ", ".join(gpus) or "none found",
        "torch": f"{torch.__version__}, CUDA {torch.version.cuda or 'not included'}",
        **{name: _version(name) for name in ("torchvision", "timm", "lightning-fabric")},
        "DALI": next((text for name in DALI if (text := _version(name)) != MISSING), MISSING),
        "Python": f"{platform.python_version()}, {platform.platform()}",
    }


def print_info() -> None:
    """Prints `info()`, one topic a line."""
    for topic, text in info().items():
        print(f"{topic:<17} {text}")


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return MISSING
