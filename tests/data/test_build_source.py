import sys
import types

import pytest
import torch

from sslfast.data import ImageBatch, build_source
from sslfast.errors import UserError


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"'cifar'; did you mean 'cifar10'"):
        build_source("cifar")


def test_a_users_own_class(monkeypatch):
    class Mine:
        classes = None

        def __init__(self, root=None, split="train", *, limit=0, value=0):
            self.limit, self.value = limit, value

        def __len__(self):
            return self.limit

        def read(self):
            return ImageBatch.from_dense(torch.full((self.limit, 2, 2, 3), self.value, dtype=torch.uint8))

    module = types.ModuleType("users_module")
    module.Mine = Mine
    monkeypatch.setitem(sys.modules, "users_module", module)
    images = build_source("users_module:Mine", limit=3, value=7).read()
    assert len(images) == 3 and (images.storage == 7).all()
    with pytest.raises(UserError, match="has no option 'valeu'; did you mean 'value'"):
        build_source("users_module:Mine", valeu=7)
