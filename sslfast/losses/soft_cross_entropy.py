"""SoftCrossEntropyLoss: cross-entropy with sparse soft labels, which are never spread over all classes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sslfast.errors import UserError
from sslfast.ops.checks import FLOATING, at_least_float32, check_reverse_mode, check_tensors, differentiable_once
from sslfast.ops.inputs import check_classes


class SoftCrossEntropyLoss(nn.Module):
    """Cross-entropy of logits with K classes and their weights a pixel, as `lab_soft_encode` returns them.

    With z the logits of a pixel, q_k and t_k its classes and their weights,

        loss = mean over pixels of -v sum over k of t_k log softmax(z)[q_k]

    where v is 1, or the `class_weights` of the pixel's first class, which is its most likely one. The labels stay
    sparse, and the backward pass writes the logits' gradient and nothing else of their size.

    Args:
        class_weights: (Q,) float, for example of `rebalancing_weights`, whose expected weight is 1: the mean is over
            pixels, not over weights.

    Raises:
        UserError: class weights that are no tensor, or of another shape.

    Source: Zhang et al. 2016 (colorful image colorization), equations 2 and 3.
    """

    class_weights: Tensor | None

    def __init__(self, class_weights: Tensor | None = None):
        super().__init__()
        if class_weights is not None:
            check_tensors("SoftCrossEntropyLoss", class_weights=class_weights)
            if class_weights.dim() != 1:
                raise UserError(
                    f"SoftCrossEntropyLoss: class_weights must have shape (Q,), got {tuple(class_weights.shape)}"
                )
        self.register_buffer("class_weights", class_weights)

    def forward(self, logits: Tensor, indices: Tensor, weights: Tensor) -> Tensor:
        """The loss of one batch.

        Args:
            logits: (B, Q, h, w) float32, float64, float16 or bfloat16; any number of dimensions may follow Q.
            indices: (B, K, h, w) int64 in [0, Q), the most likely class first.
            weights: (B, K, h, w) float, 0 or more, with sum 1 over K. They carry no gradient.

        Returns:
            Scalar, float32 (float64 for float64 logits), differentiable by the logits, once and in reverse mode.

        Raises:
            UserError: tensors that differ in shape, dtype or device, or are empty; a second or forward-mode derivative;
                or (on a CPU, not compiled) an index outside [0, Q). On CUDA, where a check would make the host wait,
                such an index ends in a device-side assertion, after which the process cannot use the GPU: try the batch
                on a CPU to see its range.
        """
        self._check(logits, indices, weights)
        check_reverse_mode("SoftCrossEntropyLoss", logits)
        weights = weights.detach().to(at_least_float32(logits[:0]).dtype)
        if self.class_weights is not None:
            weights = weights * self.class_weights.to(weights.dtype)[indices[:, :1]]
        pixels = indices[:, 0].numel()
        loss, _ = _sparse_cross_entropy(logits, indices, weights / pixels)
        return loss

    def _check(self, logits: Tensor, indices: Tensor, weights: Tensor) -> None:
        name = "SoftCrossEntropyLoss"
        check_tensors(name, logits=logits, indices=indices, weights=weights)
        if logits.dtype not in FLOATING:
            raise UserError(f"{name}: logits must be a float tensor, got {logits.dtype}; convert it with .float()")
        if indices.dtype != torch.int64:
            raise UserError(f"{name}: indices must be int64, got {indices.dtype}; convert them with .long()")
        if indices.shape != weights.shape:
            raise UserError(
                f"{name}: indices {tuple(indices.shape)} and weights {tuple(weights.shape)} must have one shape "
                "(B, K, …)"
            )
        if logits.dim() < 2 or logits.shape[:1] + logits.shape[2:] != indices.shape[:1] + indices.shape[2:]:
            raise UserError(
                f"{name}: logits {tuple(logits.shape)} and indices {tuple(indices.shape)} must agree in all but their "
                "second dimension; lab_soft_encode makes targets of any size"
            )
        if logits.numel() == 0 or indices.numel() == 0:
            raise UserError(f"{name}: logits {tuple(logits.shape)} or indices {tuple(indices.shape)} are empty")
        if self.class_weights is not None and len(self.class_weights) != logits.shape[1]:
            raise UserError(
                f"{name}: {len(self.class_weights)} class_weights for logits of {logits.shape[1]} classes; "
                "give one for each class"
            )
        tensors = [indices, weights] + ([] if self.class_weights is None else [self.class_weights])
        if any(tensor.device != logits.device for tensor in tensors):
            raise UserError(f"{name}: logits are on {logits.device}; move everything there with .to('{logits.device}')")
        check_classes(
            name, "indices", indices, logits.shape[1], "give logits a channel for every class, as dimension 1"
        )


# One op, because autograd of gather would build a dense gradient of its own, and torch.compile must see through it.
@torch.library.custom_op("sslfast::sparse_cross_entropy", mutates_args=())
def _sparse_cross_entropy(logits: Tensor, indices: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Sum over pixels and k of -weights log softmax(logits)[indices], and the log-sum-exp of each pixel."""
    scores = at_least_float32(logits)
    total = scores.logsumexp(1, keepdim=True)
    return (weights * (total - scores.gather(1, indices))).sum(), total


@torch.library.custom_op("sslfast::sparse_cross_entropy_backward", mutates_args=())
def _sparse_cross_entropy_backward(
    grad: Tensor, logits: Tensor, indices: Tensor, weights: Tensor, total: Tensor
) -> Tensor:
    weights = weights * grad
    result = torch.empty_like(logits, dtype=weights.dtype)  # in the memory format of the logits
    torch.sub(logits, total, out=result).exp_().mul_(weights.sum(1, keepdim=True)).scatter_add_(1, indices, -weights)
    return result.to(logits.dtype)


@_sparse_cross_entropy.register_fake
def _(logits: Tensor, indices: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    return weights.new_empty(()), weights.new_empty(weights[:, :1].shape)


@_sparse_cross_entropy_backward.register_fake
def _(grad: Tensor, logits: Tensor, indices: Tensor, weights: Tensor, total: Tensor) -> Tensor:
    return torch.empty_like(logits)


def _setup(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, output[1])
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
    return _sparse_cross_entropy_backward(grad, *ctx.saved_tensors), None, None


_sparse_cross_entropy.register_autograd(_backward, setup_context=_setup)
differentiable_once("sslfast::sparse_cross_entropy_backward")
