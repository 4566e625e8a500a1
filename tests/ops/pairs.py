"""Pairs of embeddings, and losses of them with their gradients."""

import torch


def pair(batch, depth, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    z0, z1 = torch.randn(2, batch, depth, generator=generator, dtype=torch.float64)
    return z0.to(dtype), z1.to(dtype)


def value_and_gradients(function, z0, z1, temperature):
    z0, z1 = z0.detach().clone().requires_grad_(), z1.detach().clone().requires_grad_()
    loss = function(z0, z1, temperature)
    return [loss.detach().double(), *(g.double() for g in torch.autograd.grad(loss, (z0, z1)))]
