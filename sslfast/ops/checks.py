"""What ops and losses on embeddings share about their inputs: checks, precision, temperature."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from sslfast._torch import is_gradtrackingtensor
from sslfast.errors import UserError

FLOATING = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def check_tensors(user: str, **values: object) -> None:
    """Raises UserError unless every value is a tensor."""
    for name, value in values.items():
        if not isinstance(value, Tensor):
            raise UserError(
                f"{user}: {name} must be a tensor, got a {type(value).__name__}; torch.as_tensor() makes one of numbers"
            )
        if value.layout != torch.strided or value.is_nested:
            kind = "nested" if value.is_nested else value.layout
            raise UserError(
                f"{user}: {name} must be a dense tensor, got {kind}; convert it, for example by .to_dense()"
            )


def check_embeddings(
    user: str, embeddings: dict[str, Tensor], dimensions: int | None = 2, same_rows: bool = True
) -> None:
    """Raises UserError unless all tensors are batches of floats with one shape, dtype and device, and not empty.

    Args:
        user: name of the op or loss, for the message.
        embeddings: the tensors by the names that the caller knows.
        dimensions: number of dimensions, the first being the batch; any where None.
        same_rows: whether the batches must be of one size as well.
    """
    first, reference = next(iter(embeddings.items()))
    for name, tensor in embeddings.items():
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or tensor.is_nested:
            check_tensors(user, **embeddings)
        if dimensions is not None and tensor.dim() != dimensions:
            raise UserError(
                f"{user}: {name} must have {dimensions} dimensions, the batch first, got shape {tuple(tensor.shape)}; "
                "reshape it, for example with .flatten(1)"
            )
        if tensor.dtype not in FLOATING:
            raise UserError(f"{user}: {name} must be a float tensor, got {tensor.dtype}; convert it with .float()")
        if tensor.numel() == 0:
            raise UserError(f"{user}: {name} is empty, shape {tuple(tensor.shape)}; give at least one row")
        if tensor is reference:
            continue
        if tensor.shape != reference.shape if same_rows else tensor.shape[1:] != reference.shape[1:]:
            rule = "shape: row b belongs to image b in both" if same_rows else "shape from the second dimension on"
            raise UserError(
                f"{user}: {first} {tuple(reference.shape)} and {name} {tuple(tensor.shape)} must have the same {rule}"
            )
        if tensor.dtype != reference.dtype:
            raise UserError(
                f"{user}: {first} is {reference.dtype} and {name} is {tensor.dtype}; "
                f"convert one, for example {name}.to({first}.dtype)"
            )
        if tensor.device != reference.device:
            raise UserError(
                f"{user}: {first} is on {reference.device} and {name} on {tensor.device}; move both to one with .to()"
            )


def check_temperature(temperature: float | Tensor) -> float:
    """The temperature as a number; a tensor on a GPU is waited for.

    Raises:
        UserError: logits cannot be divided by it, or it is a tensor of several numbers.
    """
    if isinstance(temperature, Tensor):
        if temperature.numel() != 1 or not temperature.is_floating_point():
            raise UserError(
                f"temperature is a tensor of shape {tuple(temperature.shape)} and {temperature.dtype}; "
                "give a float, or a float tensor with one element"
            )
        temperature = float(temperature.detach())
    if not (isinstance(temperature, Real) and math.isfinite(temperature) and temperature >= 1e-8):
        raise UserError(
            f"temperature is {temperature!r}; it must be a number above 0 (at least 1e-8), usually 0.05 to 1"
        )
    return float(temperature)


def differentiable_once(backward_op: str) -> None:
    """Makes what `backward_op` computes refuse to be differentiated again, where autograd would take it as constant."""

    def refuse(ctx: Any, *grads: Tensor) -> NoReturn:
        raise UserError(f"{backward_op} {_ONCE}")

    torch.library.register_autograd(backward_op, refuse)


_ONCE = (
    "is itself a gradient and has none: the loss is differentiable once; write the loss in plain PyTorch where second "
    "derivatives are needed (sslfast.ops.reference has some)"
)


class _Refusal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> NoReturn:
        raise UserError(f"What is to be differentiated {_ONCE}")


def refuse_second_derivative(*gradients: Tensor | None) -> tuple[Tensor | None, ...]:
    """`gradients` as they are; where a graph is made of them (create_graph) they refuse to be differentiated again."""
    if not torch.is_grad_enabled():
        return gradients
    return tuple(
        None if gradient is None else _Refusal.apply(gradient.detach().requires_grad_()) for gradient in gradients
    )


def check_reverse_mode(user: str, *tensors: Tensor | None) -> None:
    """Raises UserError where a derivative of torch.func goes through `tensors`.

    Forward mode would take the op as constant, and to grad, vjp and jacrev torch offers no ops of other libraries.
    """
    if torch.compiler.is_compiling():
        return
    for tensor in tensors:
        if tensor is not None and (is_gradtrackingtensor(tensor) or unpack_dual(tensor).tangent is not None):
            raise UserError(
                f"{user} is differentiable once, in reverse mode: torch.func.grad, vjp, jvp and their like do not go "
                "through it; use backward() or torch.autograd.grad, or write the loss in plain PyTorch "
                "(sslfast.ops.reference has some)"
            )


def tempered(rows: Tensor, temperature: float | Tensor, both_sides: bool = False) -> Tensor:
    """`rows` as they are; what is made from them by `check_temperature(temperature)` has a gradient by the tensor.

    A loss depends on the temperature only through similarities / temperature. So the gradient by the temperature is
    that by a common factor of all similarities, which is 1 here and falls as 1 / temperature.

    Args:
        rows: embeddings, one side of all similarities.
        temperature: above 0; a float leaves nothing to do.
        both_sides: the rows stand on both sides of every similarity: each side carries the root of the factor.
    """
    if not isinstance(temperature, Tensor) or not temperature.requires_grad:
        return rows
    number = temperature.reshape(()).to(rows)
    factor = number.detach() / number
    return rows * (factor.sqrt() if both_sides else factor)


def at_least_float32(tensor: Tensor) -> Tensor:
    """float16 and bfloat16 as float32, others as they are."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
