"""Transforms with lightly's names and arguments, for whole batches at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from sslfast.augment import presets
from sslfast.augment.options import SharedOptions, ViewOptions, with_options
from sslfast.augment.spec import ViewSpec
from sslfast.augment.transform import Transform
from sslfast.data.sources import check_number
from sslfast.errors import UserError

if TYPE_CHECKING:
    from typing_extensions import Unpack


class PresetTransform(Transform):
    """A preset's views with lightly's options: the base of the transforms named after papers.

    As in lightly the numbers are the paper's for ImageNet at any size; for the CIFAR variant of a recipe use
    `Transform(presets.simclr(32))`, or give the options.

    Args:
        input_size: side of the views in pixels, or their height and width.
        seed, dtype, channels_last: see `Transform`.
        options: see `ViewOptions`; they apply to every view.

    Raises:
        UserError: an unknown option, or a value that cannot be drawn.
    """

    preset: Callable[[], list[ViewSpec]]
    strength: float = 1.0  # the cj_strength that lightly factors out of the preset's colours
    positions: slice = slice(None)  # which of the preset's views

    def __init__(
        self,
        input_size: int | tuple[int, int] = 224,
        *,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        channels_last: bool = False,
        **options: Unpack[ViewOptions],
    ) -> None:
        sized = [view.replace(size=input_size) for view in self.preset()[self.positions]]
        views = [view.replace(blur_kernel=presets.odd_kernel(max(view.shape))) for view in sized]
        specs = [with_options(view, self.strength, options, ViewOptions) for view in views]
        super().__init__(specs, seed, dtype, channels_last)


class SimCLRTransform(PresetTransform):
    """Two views as in `presets.simclr`."""

    preset = staticmethod(presets.simclr)


class MoCoV1Transform(PresetTransform):
    """Two views as in `presets.moco_v1`."""

    preset = staticmethod(presets.moco_v1)


class MoCoV2Transform(PresetTransform):
    """Two views as in `presets.moco_v2`."""

    preset = staticmethod(presets.moco_v2)


class SimSiamTransform(PresetTransform):
    """Two views as in `presets.simsiam`."""

    preset = staticmethod(presets.simsiam)


class VICRegTransform(PresetTransform):
    """Two views as in `presets.vicreg`: solarized after the blur, as in the paper; lightly solarizes before it."""

    preset = staticmethod(presets.vicreg)
    strength = 0.5


class BYOLView1Transform(PresetTransform):
    """The first view of `presets.byol`."""

    preset = staticmethod(presets.byol)
    positions = slice(0, 1)


class BYOLView2Transform(PresetTransform):
    """The second view of `presets.byol`."""

    preset = staticmethod(presets.byol)
    positions = slice(1, 2)


class BYOLTransform(Transform):
    """BYOL's two views, each with its own options.

    Args:
        view_1_transform: the first view, `BYOLView1Transform()` when absent.
        view_2_transform: the second view, `BYOLView2Transform()` when absent.
        seed, dtype, channels_last: see `Transform`; those of the two views are not used.
    """

    def __init__(
        self,
        view_1_transform: Transform | None = None,
        view_2_transform: Transform | None = None,
        *,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        channels_last: bool = False,
    ) -> None:
        first, second = view_1_transform or BYOLView1Transform(), view_2_transform or BYOLView2Transform()
        super().__init__([*first.specs, *second.specs], seed, dtype, channels_last)


class BarlowTwinsTransform(BYOLTransform):
    """Barlow Twins' two views, which are BYOL's (`presets.barlow_twins`)."""


class SwaVTransform(Transform):
    """SwAV's multi-crop as in `presets.swav`, with any number of kinds of crops.

    Args:
        crop_sizes: side in pixels of each kind, or its height and width.
        crop_counts: number of views of each kind.
        crop_min_scales, crop_max_scales: smallest and largest area of each kind, as fractions of the image.
        gaussian_blur: probability of a gaussian blur.
        seed, dtype, channels_last: see `Transform`.
        options: see `SharedOptions`; they apply to every view.

    Raises:
        UserError: lists of different lengths, an unknown option, or a value that cannot be drawn.
    """

    def __init__(
        self,
        crop_sizes: Sequence[int | tuple[int, int]] = (224, 96),
        crop_counts: Sequence[int] = (2, 6),
        crop_min_scales: Sequence[float] = (0.14, 0.05),
        crop_max_scales: Sequence[float] = (1.0, 0.14),
        *,
        gaussian_blur: float = 0.5,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        channels_last: bool = False,
        **options: Unpack[SharedOptions],
    ) -> None:
        kinds = (crop_sizes, crop_counts, crop_min_scales, crop_max_scales)
        lengths = [len(kind) if isinstance(kind, Sequence) else kind for kind in kinds]
        if not all(isinstance(kind, Sequence) for kind in kinds) or len(set(lengths)) > 1:
            raise UserError(
                "crop_sizes, crop_counts, crop_min_scales and crop_max_scales need one entry per kind of crop; "
                f"they have {lengths}"
            )
        for count in crop_counts:
            check_number("an entry of crop_counts", count, 0)
        view = with_options(presets.swav()[0], 1.0, options, SharedOptions).replace(blur=gaussian_blur)
        specs = []
        for size, count, low, high in zip(crop_sizes, crop_counts, crop_min_scales, crop_max_scales, strict=True):
            specs += [view.replace(size=size, crop_scale=(low, high))] * count
        super().__init__(specs, seed, dtype, channels_last)


class DINOTransform(Transform):
    """DINO's multi-crop as in `presets.dino`: two different global views and several local ones.

    Args:
        global_crop_size, local_crop_size: side in pixels, or height and width.
        global_crop_scale, local_crop_scale: smallest and largest area, as fractions of the image.
        n_local_views: number of local views; 8 as in the authors' code.
        gaussian_blur: probability of a blur of the first global, the second global and the local views.
        solarization_prob: probability of solarization of the second global view.
        seed, dtype, channels_last: see `Transform`.
        options: see `SharedOptions`; they apply to every view.

    Raises:
        UserError: an unknown option, or a value that cannot be drawn.
    """

    def __init__(
        self,
        global_crop_size: int | tuple[int, int] = 224,
        global_crop_scale: tuple[float, float] = (0.4, 1.0),
        local_crop_size: int | tuple[int, int] = 96,
        local_crop_scale: tuple[float, float] = (0.05, 0.4),
        n_local_views: int = 8,
        *,
        gaussian_blur: tuple[float, float, float] = (1.0, 0.1, 0.5),
        solarization_prob: float = 0.2,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        channels_last: bool = False,
        **options: Unpack[SharedOptions],
    ) -> None:
        if not isinstance(gaussian_blur, Sequence) or len(gaussian_blur) != 3:
            raise UserError(
                f"gaussian_blur is {gaussian_blur!r}; it must be three probabilities: of the first global, the second "
                "global and the local views"
            )
        check_number("n_local_views", n_local_views, 0)
        views = [with_options(view, 0.5, options, SharedOptions) for view in presets.dino(local_views=1)]
        sizes = (global_crop_size, global_crop_size, local_crop_size)
        scales = (global_crop_scale, global_crop_scale, local_crop_scale)
        first, second, local = (
            view.replace(size=size, crop_scale=scale, blur=blur)
            for view, size, scale, blur in zip(views, sizes, scales, gaussian_blur, strict=True)
        )
        specs = [first, second.replace(solarize=solarization_prob)] + [local] * n_local_views
        super().__init__(specs, seed, dtype, channels_last)
