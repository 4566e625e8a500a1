"""Tensor functions on compiled kernels, registered as `torch.ops.sslfast.*`."""

from sslfast import _libraries

_libraries.load()

from sslfast.ops.augment import augment  # noqa: E402
from sslfast.ops.augment_params import AUGMENT_COLUMNS, augment_params  # noqa: E402
from sslfast.ops.nt_xent import nt_xent  # noqa: E402

__all__ = ["AUGMENT_COLUMNS", "augment", "augment_params", "nt_xent"]
