"""lightly's transforms (`lightly.transforms`) of one image, which `sslfast.compat.torch.DataLoader` applies to batches.

Options and views are those of the classes of the same names in `sslfast.augment`: options are given by name, behind the
sizes, and where lightly's defaults are others than the paper's, the paper's hold: `MoCoV1Transform` always jitters the
colours (lightly: cj_prob=0.8), `DINOTransform` has 8 local views (lightly: 6), BYOL's views are resized bicubically
(lightly: bilinearly) and VICReg's solarized after the blur (lightly: before).
"""

from __future__ import annotations

from sslfast import augment
from sslfast.compat.pending import PerImage

__all__ = [
    "BYOLTransform",
    "BYOLView1Transform",
    "BYOLView2Transform",
    "DINOTransform",
    "MoCoV1Transform",
    "MoCoV2Transform",
    "SimCLRTransform",
    "SimSiamTransform",
    "SwaVTransform",
    "VICRegTransform",
]


class SimCLRTransform(PerImage, augment.SimCLRTransform):
    """SimCLR's two views of one image."""


class MoCoV1Transform(PerImage, augment.MoCoV1Transform):
    """MoCo's two views of one image."""


class MoCoV2Transform(PerImage, augment.MoCoV2Transform):
    """MoCo v2's two views of one image."""


class SimSiamTransform(PerImage, augment.SimSiamTransform):
    """SimSiam's two views of one image."""


class VICRegTransform(PerImage, augment.VICRegTransform):
    """VICReg's two views of one image."""


class BYOLView1Transform(PerImage, augment.BYOLView1Transform):
    """BYOL's first view of one image."""

    one_view = True


class BYOLView2Transform(PerImage, augment.BYOLView2Transform):
    """BYOL's second view of one image."""

    one_view = True


class BYOLTransform(PerImage, augment.BYOLTransform):
    """BYOL's two views of one image."""


class SwaVTransform(PerImage, augment.SwaVTransform):
    """SwAV's multi-crop of one image."""


class DINOTransform(PerImage, augment.DINOTransform):
    """DINO's multi-crop of one image."""
