"""Tensor functions; the compiled ones are registered as `torch.ops.sslfast.*`."""

from sslfast import _libraries

_libraries.load()

from sslfast.ops.augment import augment  # noqa: E402
from sslfast.ops.augment_params import AUGMENT_COLUMNS, augment_params  # noqa: E402
from sslfast.ops.info_nce import info_nce  # noqa: E402
from sslfast.ops.knn import kmeans_assign, knn  # noqa: E402
from sslfast.ops.lab import lab_to_rgb, rgb_to_lab  # noqa: E402
from sslfast.ops.lab_dequantize import ab_annealed_mean, ab_bins, lab_dequantize  # noqa: E402
from sslfast.ops.lab_quantize import lab_quantize, lab_soft_encode  # noqa: E402
from sslfast.ops.nt_xent import ContrastMetrics, nt_xent  # noqa: E402
from sslfast.ops.nt_xent_classes import logsumexp_and_largest_by_class  # noqa: E402
from sslfast.ops.patch_grid import patch_grid  # noqa: E402
from sslfast.ops.patch_grid_params import PatchGridParams, patch_grid_params  # noqa: E402
from sslfast.ops.reduce_resolution import reduce_resolution  # noqa: E402

__all__ = [
    "AUGMENT_COLUMNS",
    "ContrastMetrics",
    "PatchGridParams",
    "ab_annealed_mean",
    "ab_bins",
    "augment",
    "augment_params",
    "info_nce",
    "kmeans_assign",
    "knn",
    "lab_dequantize",
    "lab_quantize",
    "lab_soft_encode",
    "lab_to_rgb",
    "logsumexp_and_largest_by_class",
    "nt_xent",
    "patch_grid",
    "patch_grid_params",
    "reduce_resolution",
    "rgb_to_lab",
]
