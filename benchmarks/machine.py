"""What a machine is and what it can do: its name, its copy bandwidth, its matrix rate, and peak memory of a call."""

from __future__ import annotations

import ctypes
import math
import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

COPY_BYTES = 256 << 20  # far beyond every cache
GPU_SAMPLE_SECONDS = 5e-3  # waiting for a GPU takes some 10 us, as long as a short call
MOST_CALLS_A_SAMPLE = 200


def describe(device: str, threads: int) -> dict[str, Any]:
    """Name, processor, cores, threads used, memory and GPU of this machine."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists() and (model := re.search(r"model name\s*:\s*(.+)", info.read_text())):
        cpu = model[1].strip()
    gpu = torch.cuda.get_device_name() if device == "cuda" else None
    cores = os.cpu_count() or 1
    name = re.sub(r"[^a-z0-9]+", "-", (gpu or f"{cpu} {cores} cores").lower()).strip("-")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"name": name, "cpu": cpu, "cores": cores, "threads": threads, "memory_bytes": memory, "gpu": gpu}


def synchronise(device: str) -> None:
    """Waits for the device, so that the clock sees finished work."""
    if device == "cuda":
        torch.cuda.synchronize()


def timed(call: Callable[[], object], device: str, calls: int = 1) -> tuple[float, object]:
    """Seconds a call takes, from an idle device to finished work, and what the last call returned.

    The device is waited for as a whole: libraries may work on streams of their own.
    """
    synchronise(device)
    begin = time.perf_counter()
    for _ in range(calls - 1):
        call()
    result = call()
    synchronise(device)
    return (time.perf_counter() - begin) / calls, result


def calls_a_sample(call: Callable[[], object], device: str) -> int:
    """How many calls are timed as one: on a GPU as many as take about 5 ms, else one; `call` has been warmed up."""
    if device != "cuda":
        return 1
    return max(1, min(MOST_CALLS_A_SAMPLE, math.ceil(GPU_SAMPLE_SECONDS / timed(call, device)[0])))


def median_seconds(call: Callable[[], object], device: str, repeats: int = 7) -> float:
    """Median time of `call` after two warm-up calls."""
    for _ in range(2):
        call()
    calls = calls_a_sample(call, device)
    return statistics.median(timed(call, device, calls)[0] for _ in range(repeats))


def measure_floor(device: str) -> dict[str, float]:
    """Bytes a second read and written by a copy, and floating-point operations a second of a matrix product.

    The product is float32 on a CPU and bfloat16 on a GPU: what a kernel may use there at best.
    """
    source = torch.ones(COPY_BYTES // 4, device=device)
    target = torch.empty_like(source)
    copy = median_seconds(lambda: target.copy_(source), device)
    side, dtype = (8192, torch.bfloat16) if device == "cuda" else (2048, torch.float32)
    a = torch.randn(side, side, device=device, dtype=dtype)
    b = torch.randn(side, side, device=device, dtype=dtype)
    c = torch.empty(side, side, device=device, dtype=dtype)
    product = median_seconds(lambda: torch.mm(a, b, out=c), device)
    return {"copy_bytes_per_second": 2 * COPY_BYTES / copy, "matrix_flops_per_second": 2 * side**3 / product}


def peak_extra_bytes(call: Callable[[], object], device: str) -> int | None:
    """Most memory that one call holds beyond what was held before it; None where the system cannot tell.

    On a CPU this is the process's peak resident memory, which Linux can reset; memory which the allocator kept from
    earlier calls is given back first, so that reused memory counts too. On a GPU it is what torch's allocator handed
    out; libraries with allocators of their own cannot be measured.
    """
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = _status_bytes("VmRSS")
        call()
        return max(0, _status_bytes("VmHWM") - before)
    except OSError:
        return None


def _status_bytes(field: str) -> int:
    match = re.search(rf"{field}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    if match is None:
        raise OSError(f"/proc/self/status has no {field}")
    return int(match[1]) * 1024
