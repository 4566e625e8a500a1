"""What the tests of the losses share."""

import torch

LOW_PRECISION = [torch.float16, torch.bfloat16]


def embeddings(count, batch=19, depth=12, seed=0):
    """`count` tensors (batch, depth)."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, depth, generator=generator) for _ in range(count)]


def value_and_gradients(loss, *tensors):
    """The loss of the tensors, and its gradient by each of them, 0 where it does not depend on one."""
    tensors = [tensor.clone().requires_grad_() for tensor in tensors]
    value = loss(*tensors)
    return (value.detach(), *torch.autograd.grad(value, tensors, materialize_grads=True))


def assert_equal(ours, theirs, rtol=1e-5, atol=1e-6):
    for got, want in zip(ours, theirs, strict=True):
        assert got.shape == want.shape
        torch.testing.assert_close(got.double(), want.double(), rtol=rtol, atol=atol)


def under_autocast(loss):
    """The loss computed as within a mixed-precision training step, whose backward pass is outside."""

    def forward(*tensors):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return loss(*tensors)

    return forward
