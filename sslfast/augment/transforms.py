"""Transforms with lightly's names and arguments, for use inside other people's pipelines: whole batches at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypedDict

import torch
from torch import Tensor, nn

from sslfast.augment import presets
from sslfast.augment.multiview import MultiView
from sslfast.augment.spec import ViewSpec
from sslfast.data.batch import MAX_CHANNELS, ImageBatch
from sslfast.errors import UserError
from sslfast.ops.augment_params import MAX_ROTATIONS
from sslfast.registry import nearest

if TYPE_CHECKING:
    import numpy
    from typing_extensions import Unpack


class Transform(nn.Module):
    """All views of a batch of uint8 images, drawn on the device that holds them.

    Each call counts as the next epoch, so that two calls differ. The count is kept in the state dict: a pipeline that
    restores it goes on with the views it would have drawn. Call it on the batch in the training loop: worker processes
    of a loader would each count for themselves.

    Args:
        specs: one ViewSpec a view, e.g. `presets.simclr(32)`.
        seed: names the random streams; ranks that do not pass `index` need one each.
        dtype: of the views, torch.float32, float16 or bfloat16.
        channels_last: memory layout of the views.

    Attributes:
        multi_view: draws the views, with `specs` as they were resolved.
        calls: calls counted so far.
    """

    def __init__(
        self,
        specs: Sequence[ViewSpec],
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.multi_view = MultiView(specs, seed, dtype, channels_last)
        self.calls = 0

    @property
    def specs(self) -> list[ViewSpec]:
        """One ViewSpec a view."""
        return self.multi_view.specs

    def forward(
        self,
        batch: ImageBatch | Tensor | Sequence[Tensor | numpy.ndarray],
        index: Tensor | None = None,
        epoch: int | None = None,
    ) -> list[Tensor]:
        """Views of every image.

        Args:
            batch: an ImageBatch; (B, C, H, W) or (B, H, W, C) uint8 in [0, 255], where channels last (or the
                channels_last memory format) saves a copy; or a list of (C, H, W), (H, W, C) or (H, W) uint8 tensors or
                arrays of any sizes. The dimension of 16 or less is taken for the channels.
            index: (B,) int64, 0 or more; names the random stream of each image: its position in the data set. The
                batch's own for an ImageBatch and 0 … B-1 otherwise, when absent.
            epoch: 0 to 2**32 - 1, names the streams together with `index`; the number of calls so far when absent.

        Returns:
            One (B, C, h, w) tensor a view, normalised, on the batch's device.

        Raises:
            UserError: another dtype or shape, or channels that cannot be told from height and width.
        """
        images = _as_image_batch(batch)
        if index is not None:
            if index.shape != (len(images),):
                raise UserError(f"index must have one entry per image: ({len(images)},), got {tuple(index.shape)}")
            images = replace(images, index=index.to(images.device, torch.int64))
        if epoch is None:
            epoch = self.calls
            self.calls += 1
        return self.multi_view(images, epoch).tensors

    def get_extra_state(self) -> dict[str, int]:
        return {"calls": self.calls}

    def set_extra_state(self, state: Mapping[str, int]) -> None:
        self.calls = state["calls"]

    def extra_repr(self) -> str:
        return f"sizes={[spec.size for spec in self.specs]}, seed={self.multi_view.seed}"


class SharedOptions(TypedDict, total=False):
    """lightly's names for what every view is drawn from; one that is not given keeps the paper's value.

    Attributes:
        cj_prob: probability of the colour jitter.
        cj_strength: multiplies the four strengths that follow.
        cj_bright, cj_contrast, cj_sat, cj_hue: strengths of the colour jitter's parts.
        random_gray_scale: probability of conversion to gray.
        kernel_size: odd width of the blur's window in pixels; 10 % of the (largest) view's side when None.
        sigmas: smallest and largest standard deviation of the blur in pixels.
        vf_prob, hf_prob: probability of a vertical and of a horizontal flip.
        rr_prob: probability of a rotation, a multiple of 1/n with n up to 16.
        rr_degrees: the angle in degrees, as (angle, angle); 90 when None. A range of angles cannot be drawn.
        normalize: {"mean": …, "std": …} per channel for values in [0, 1]; None leaves the values in [0, 1].
    """

    cj_prob: float
    cj_strength: float
    cj_bright: float
    cj_contrast: float
    cj_sat: float
    cj_hue: float
    random_gray_scale: float
    kernel_size: int | None
    sigmas: tuple[float, float]
    vf_prob: float
    hf_prob: float
    rr_prob: float
    rr_degrees: float | tuple[float, float] | None
    normalize: Mapping[str, Sequence[float]] | None


class ViewOptions(SharedOptions, total=False):
    """The shared options, and those that multi-crop sets for each kind of view.

    Attributes:
        min_scale: smallest area of the random-resized-crop, as a fraction of the image.
        gaussian_blur: probability of a gaussian blur.
        solarize_prob, solarization_prob: probability of solarization (VICReg's name and BYOL's).
    """

    min_scale: float
    gaussian_blur: float
    solarize_prob: float
    solarization_prob: float


_FIELDS = {
    "cj_prob": "jitter",
    "random_gray_scale": "grayscale",
    "gaussian_blur": "blur",
    "solarize_prob": "solarize",
    "solarization_prob": "solarize",
    "vf_prob": "vflip",
    "hf_prob": "hflip",
}
_STRENGTHS = {"cj_bright": "brightness", "cj_contrast": "contrast", "cj_sat": "saturation", "cj_hue": "hue"}


def _with_options(view: ViewSpec, strength: float, options: Mapping[str, Any], names: type) -> ViewSpec:
    """The view with the options named in `names`; its own colours are those of a `cj_strength` of `strength`."""
    valid = list(names.__annotations__)
    for name in options:
        if name not in valid:
            raise UserError(f"unknown option {name!r}; {nearest(name, valid)}")
    changes: dict[str, Any] = {field: options[name] for name, field in _FIELDS.items() if name in options}
    chosen = options.get("cj_strength", strength)
    for name, field in _STRENGTHS.items():
        if name in options or chosen != strength:
            changes[field] = chosen * options.get(name, getattr(view, field) / strength)
    if "min_scale" in options:
        changes["crop_scale"] = (options["min_scale"], 1.0)
    if options.get("kernel_size") is not None:
        changes["blur_kernel"] = options["kernel_size"]
    if "sigmas" in options:
        changes["blur_sigma"] = tuple(options["sigmas"])
    if "normalize" in options:
        statistics = options["normalize"] or {"mean": (0.0,), "std": (1.0,)}
        changes.update({name: tuple(statistics[name]) for name in ("mean", "std")})
    changes["rotation"] = _rotation(options.get("rr_prob", 0.0), options.get("rr_degrees"))
    return view.replace(**changes)


def _rotation(probability: float, degrees: float | tuple[float, float] | None) -> tuple[float, ...]:
    """Angles of which one is drawn, so that a rotation has the wanted probability."""
    if probability == 0.0:
        return ()
    if degrees is None:
        low, high = 90.0, 90.0
    else:
        low, high = (-degrees, degrees) if isinstance(degrees, (int, float)) else degrees
    if low != high:
        raise UserError(
            f"rr_degrees={degrees!r} is a range, and rotations are drawn from a list of angles; pass None (90 "
            f"degrees), (angle, angle), or Transform with specs of up to {MAX_ROTATIONS} angles in ViewSpec.rotation"
        )
    share = Fraction(probability).limit_denominator(MAX_ROTATIONS)
    if not 0.0 < probability <= 1.0 or abs(float(share) - probability) > 1e-6:
        raise UserError(
            f"rr_prob is {probability!r}; it must be a probability that is a multiple of 1/n, n up to {MAX_ROTATIONS}, "
            f"such as {float(min(max(share, Fraction(1, MAX_ROTATIONS)), Fraction(1))):.4g}"
        )
    return (0.0,) * (share.denominator - share.numerator) + (float(low),) * share.numerator


class PresetTransform(Transform):
    """A preset's views with lightly's options: the base of the transforms named after papers.

    As in lightly the numbers are the paper's for ImageNet at any size; for the CIFAR variant of a recipe use
    `Transform(presets.simclr(32))`, or give the options.

    Args:
        input_size: side of the views in pixels.
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
        input_size: int = 224,
        *,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        channels_last: bool = False,
        **options: Unpack[ViewOptions],
    ) -> None:
        views = [
            view.replace(size=input_size, blur_kernel=presets.odd_kernel(input_size))
            for view in self.preset()[self.positions]
        ]
        specs = [_with_options(view, self.strength, options, ViewOptions) for view in views]
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
    """Two views as in `presets.vicreg`."""

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
        crop_sizes: side in pixels of each kind.
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
        crop_sizes: Sequence[int] = (224, 96),
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
        lengths = [len(crop_sizes), len(crop_counts), len(crop_min_scales), len(crop_max_scales)]
        if len(set(lengths)) > 1:
            raise UserError(
                "crop_sizes, crop_counts, crop_min_scales and crop_max_scales need one entry per kind of crop; "
                f"they have {lengths}"
            )
        view = _with_options(presets.swav()[0], 1.0, options, SharedOptions).replace(blur=gaussian_blur)
        specs = []
        for size, count, low, high in zip(crop_sizes, crop_counts, crop_min_scales, crop_max_scales, strict=True):
            specs += [view.replace(size=size, crop_scale=(low, high))] * count
        super().__init__(specs, seed, dtype, channels_last)


class DINOTransform(Transform):
    """DINO's multi-crop as in `presets.dino`: two different global views and several local ones.

    Args:
        global_crop_size, local_crop_size: side in pixels.
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
        global_crop_size: int = 224,
        global_crop_scale: tuple[float, float] = (0.4, 1.0),
        local_crop_size: int = 96,
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
        views = [_with_options(view, 0.5, options, SharedOptions) for view in presets.dino(local_views=1)]
        sizes = (global_crop_size, global_crop_size, local_crop_size)
        scales = (global_crop_scale, global_crop_scale, local_crop_scale)
        first, second, local = (
            view.replace(size=size, crop_scale=tuple(scale), blur=blur)
            for view, size, scale, blur in zip(views, sizes, scales, gaussian_blur, strict=True)
        )
        specs = [first, second.replace(solarize=solarization_prob)] + [local] * n_local_views
        super().__init__(specs, seed, dtype, channels_last)


def _as_image_batch(batch: ImageBatch | Tensor | Sequence[Tensor | numpy.ndarray]) -> ImageBatch:
    if isinstance(batch, ImageBatch):
        return batch
    if isinstance(batch, Tensor):
        if batch.dim() != 4:
            raise UserError(f"batch must be (B, C, H, W) or (B, H, W, C), got shape {tuple(batch.shape)}")
        return ImageBatch.from_dense(_channels_last(batch, "batch"))
    if not isinstance(batch, Sequence):
        raise UserError(
            f"batch must be an ImageBatch, a uint8 tensor or a list of images, got {type(batch).__name__}; "
            "make an array of a batch a tensor with torch.from_numpy"
        )
    images = []
    for position, image in enumerate(batch):
        try:
            tensor = image if isinstance(image, Tensor) else torch.tensor(image)
        except (TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"batch[{position}] is a {type(image).__name__}, not a uint8 tensor or array; "
                "convert a PIL image with numpy.array(image.convert('RGB'))"
            ) from error
        images.append(tensor if tensor.dim() == 2 else _channels_last(tensor, f"batch[{position}]"))
    return ImageBatch.from_list(images)


def _channels_last(images: Tensor, name: str) -> Tensor:
    """Images with their channels, the dimension of 16 or less, moved to the end."""
    if images.dim() < 3:
        raise UserError(f"{name} must have height, width and channels, got shape {tuple(images.shape)}")
    first, last = images.shape[-3], images.shape[-1]
    for most in (MAX_CHANNELS, 4):
        if last <= most < first:
            return images
        if first <= most < last:
            return images.movedim(-3, -1)
    raise UserError(
        f"{name} has shape {tuple(images.shape)}: which dimension holds the channels (1 to {MAX_CHANNELS}) cannot be "
        "told; pass an ImageBatch, whose from_dense and from_list take channels last"
    )
