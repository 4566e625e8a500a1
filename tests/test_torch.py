"""What is taken of torch beyond its public interface may be gone in a later release."""

import subprocess
import sys

import torch

WITHOUT = """
import sys, types
import torch
for name, parts in (("torch._compile", ()), ("torch._C._functorch", ())):
    sys.modules[name] = types.ModuleType(name)
from sslfast._torch import is_gradtrackingtensor, not_compiled
assert not_compiled is torch.compiler.disable and not is_gradtrackingtensor(torch.ones(1))
"""


def test_it_is_used_where_it_is_there():
    from sslfast._torch import is_gradtrackingtensor, not_compiled

    assert not_compiled is not torch.compiler.disable
    seen = []
    torch.func.grad(lambda x: seen.append(is_gradtrackingtensor(x)) or x.sum())(torch.ones(2))
    assert seen == [True] and not is_gradtrackingtensor(torch.ones(2))


def test_what_stands_in_for_it():
    subprocess.run([sys.executable, "-c", WITHOUT], check=True)
