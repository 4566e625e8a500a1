"""What is taken of torch beyond its public interface, with what stands in for it where a release has it no more."""

from __future__ import annotations

from torch import Tensor

try:  # torch.compiler.disable without its import of the compiler, which takes a second in every process
    from torch._compile import _disable_dynamo as not_compiled
except ImportError:
    from torch.compiler import disable as not_compiled  # type: ignore[no-redef]

try:  # whether torch.func differentiates by a tensor
    from torch._C._functorch import is_gradtrackingtensor
except ImportError:

    def is_gradtrackingtensor(tensor: Tensor) -> bool:
        return False  # torch's own message tells less, and as loudly


__all__ = ["is_gradtrackingtensor", "not_compiled"]
