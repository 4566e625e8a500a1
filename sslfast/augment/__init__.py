"""What to draw: views, patch grids, the papers' presets, the views of a batch, and transforms with lightly's names."""

from sslfast.augment import grids, presets
from sslfast.augment.grids import GridSpec
from sslfast.augment.multigrid import GridViews, MultiGrid, mosaic
from sslfast.augment.multiview import MultiView, Views, unnormalized
from sslfast.augment.spec import ViewSpec
from sslfast.augment.transform import Transform
from sslfast.augment.transforms import (
    BarlowTwinsTransform,
    BYOLTransform,
    BYOLView1Transform,
    BYOLView2Transform,
    DINOTransform,
    MoCoV1Transform,
    MoCoV2Transform,
    SimCLRTransform,
    SimSiamTransform,
    SwaVTransform,
    VICRegTransform,
)

__all__ = [
    "BYOLTransform",
    "BYOLView1Transform",
    "BYOLView2Transform",
    "BarlowTwinsTransform",
    "DINOTransform",
    "GridSpec",
    "GridViews",
    "MoCoV1Transform",
    "MoCoV2Transform",
    "MultiGrid",
    "MultiView",
    "SimCLRTransform",
    "SimSiamTransform",
    "SwaVTransform",
    "Transform",
    "VICRegTransform",
    "ViewSpec",
    "Views",
    "grids",
    "mosaic",
    "presets",
    "unnormalized",
]
