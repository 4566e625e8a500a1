"""What every op must satisfy, and the samples it is tried on.

A contract names an op, its slow reference and samples of its raw arguments (what `torch.ops.sslfast.<name>` takes). The
CPU tests, the CUDA tests and the SIMT bench run the same samples; an op joins them all by one entry in `CONTRACTS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

# Module of the samples by op: `tests/ops/samples_<name>.py` holds a `CONTRACT`.
CONTRACTS = {
    "augment_params": "ops.samples_augment_params:CONTRACT",
    "augment": "ops.samples_augment:CONTRACT",
    "rgb_to_lab": "ops.samples_lab:TO_LAB",
    "lab_to_rgb": "ops.samples_lab:TO_RGB",
    "lab_quantize": "ops.samples_lab_quantize:HARD",
    "lab_soft_encode": "ops.samples_lab_quantize:SOFT",
    "nt_xent_forward": "ops.samples_nt_xent:FORWARD",
    "nt_xent_classes_forward": "ops.samples_nt_xent:CLASSES",
    "nt_xent_backward": "ops.samples_nt_xent:BACKWARD",
    "patch_grid": "ops.samples_patch_grid:FORWARD",
    "patch_grid_backward": "ops.samples_patch_grid:BACKWARD",
    "patch_grid_params": "ops.samples_patch_grid_params:CONTRACT",
    "reduce_resolution": "ops.samples_reduce_resolution:CONTRACT",
}

# Ops that have a kernel on the CPU alone.
CPU_CONTRACTS = {
    "knn": "ops.samples_knn:CONTRACT",
    "nt_xent_contrast_forward": "ops.samples_nt_xent_contrast:FORWARD",
    "nt_xent_contrast_backward": "ops.samples_nt_xent_contrast:BACKWARD",
    "unit_rows_forward": "ops.samples_nt_xent_contrast:ROWS",
    "unit_rows_backward": "ops.samples_nt_xent_contrast:ROWS_BACKWARD",
}


@dataclass(frozen=True)
class Sample:
    """Arguments of one call, on the CPU; `small` ones are also run by the SIMT bench."""

    name: str
    args: tuple[Any, ...]
    small: bool = True


@dataclass(frozen=True)
class Contract:
    """An op and what it must equal.

    Attributes:
        name: of `torch.ops.sslfast.<name>`.
        reference: takes the op's raw arguments and returns float32 or float64 results (one tensor or a tuple).
        samples: makes the samples.
        atol: largest absolute difference from the reference in float32.
        device_atol: largest absolute difference between devices in float32; 0 demands equal bits.
    """

    name: str
    reference: Callable[..., Any]
    samples: Callable[[], list[Sample]]
    atol: float = 1e-4
    device_atol: float = 1e-4
    gradcheck: Callable[[], None] | None = field(default=None)


def load(name: str) -> Contract:
    """The contract of op `name`."""
    module, _, attribute = (CONTRACTS | CPU_CONTRACTS)[name].partition(":")
    contract = getattr(importlib.import_module(module), attribute)
    assert contract.name == name
    return contract


def cases(small_only: bool = False, cpu: bool = False) -> Iterator[tuple[str, Contract, Sample]]:
    """Every sample of every contract as (id, contract, sample), for `pytest.mark.parametrize`.

    With `cpu`, those of ops for the CPU alone as well.
    """
    for name in CONTRACTS | CPU_CONTRACTS if cpu else CONTRACTS:
        contract = load(name)
        for sample in contract.samples():
            if sample.small or not small_only:
                yield f"{name}-{sample.name}", contract, sample


def call(contract: Contract, sample: Sample, namespace: str = "sslfast", device: str = "cpu") -> tuple[Tensor, ...]:
    """Results of the op of `namespace` on `device`, brought back to the CPU."""
    op = getattr(getattr(torch.ops, namespace), contract.name)
    args = [value.to(device) if isinstance(value, Tensor) else value for value in sample.args]
    return tuple(result.cpu() for result in as_tuple(op(*args)))


def as_tuple(result: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


# Rounding to the output's own precision comes on top of a contract's tolerance; relative to values around 1.
ROUNDING = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}


def assert_close(got: tuple[Tensor, ...], expected: tuple[Tensor, ...], atol: float) -> None:
    """Equal shapes, and values within `atol` plus one rounding of a low-precision result; integers are equal."""
    assert len(got) == len(expected)
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.shape == theirs.shape
        if not ours.is_floating_point():
            assert torch.equal(ours, theirs)
            continue
        rounding = ROUNDING.get(ours.dtype, 0.0)
        torch.testing.assert_close(ours.double(), theirs.double(), rtol=rounding, atol=atol + rounding, equal_nan=True)


def check_values(contract: Contract, sample: Sample, namespace: str = "sslfast", device: str = "cpu") -> None:
    """The op equals its reference, and a second run gives the same bits."""
    got = call(contract, sample, namespace, device)
    assert_close(got, as_tuple(contract.reference(*sample.args)), contract.atol)
    for first, second in zip(got, call(contract, sample, namespace, device), strict=True):
        assert torch.equal(first.nan_to_num(), second.nan_to_num()), "two runs differ"


def check_devices(contract: Contract, sample: Sample, namespace: str = "sslfast", device: str = "cpu") -> None:
    """Another device, or the SIMT bench, gives what the CPU kernel gives."""
    assert_close(call(contract, sample, namespace, device), call(contract, sample), contract.device_atol)


def check_registration(contract: Contract, sample: Sample, device: str = "cpu") -> None:
    """Schema, fake tensors (shapes, dtypes, strides) and autograd are registered as torch expects."""
    op = getattr(torch.ops.sslfast, contract.name).default
    args = tuple(value.to(device) if isinstance(value, Tensor) else value for value in sample.args)
    torch.library.opcheck(op, args)
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fakes = as_tuple(op(*(mode.from_tensor(value) if isinstance(value, Tensor) else value for value in args)))
    for fake, real in zip(fakes, as_tuple(op(*args)), strict=True):
        assert (fake.shape, fake.stride(), fake.dtype) == (real.shape, real.stride(), real.dtype)


def check_compile(contract: Contract, sample: Sample, device: str = "cpu") -> None:
    """`torch.compile(fullgraph=True)` traces through the op without a break and changes nothing."""
    op = getattr(torch.ops.sslfast, contract.name)
    args = tuple(value.to(device) if isinstance(value, Tensor) else value for value in sample.args)
    torch.compiler.reset()
    compiled = torch.compile(lambda *values: op(*values), fullgraph=True, backend="aot_eager")
    for traced, eager in zip(as_tuple(compiled(*args)), as_tuple(op(*args)), strict=True):
        assert torch.equal(traced.nan_to_num(), eager.nan_to_num())
