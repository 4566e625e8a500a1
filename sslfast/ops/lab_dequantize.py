"""lab_dequantize, ab_annealed_mean and ab_bins: from classes and logits back to colours."""

from __future__ import annotations

import torch
from torch import Tensor

from sslfast import _host
from sslfast.errors import UserError
from sslfast.ops.checks import check_tensors
from sslfast.ops.inputs import check_classes
from sslfast.ops.lab_quantize import check_kind

AB_BINS = 313
GRID_RANGES = {"lab": ((0.0, 100.0), (-128.0, 127.0), (-128.0, 127.0)), "rgb": ((0.0, 1.0),) * 3}
FIRST_BINS, REST_BINS = 100, 10


def ab_bins(device: torch.device | str = "cpu") -> Tensor:
    """The 313 bins of the ab plane: every point with colours of sRGB around it, on a grid of 10.

    A point of the grid is a bin if it is a corner of a 10 x 10 cell that the convex hull of all sRGB colours enters.
    They are computed by that rule, which gives the published list.

    Args:
        device: of the result.

    Returns:
        (313, 2) float32: a in [-90, 100], b in [-110, 100], in the order of the classes: by a, then b.

    Source: Zhang et al. 2016 (colorful image colorization), section 2.1.
    """
    return torch.tensor(_host.ab_bins(), dtype=torch.float32, device=device)


def lab_dequantize(
    first: Tensor, rest: Tensor, kind: str = "grid", space: str = "lab", ranges: Tensor | None = None
) -> Tensor:
    """Gives every class of `lab_quantize` the colour in the middle of its bin.

    Args:
        first: (B, h, w) int64 in [0, 100), bin of L or R.
        rest: (B, h, w) int64, bin of (a, b) or (G, B): in [0, 100), for `ab313` in [0, 313).
        kind: as in `lab_quantize`.
        space: as in `lab_quantize`.
        ranges: (B, 3, 2) float32 of `lab_quantize(…, return_ranges=True)`, for the kind `rescaled`.

    Returns:
        (B, 3, h, w) float32, Lab (`lab_to_rgb` makes pictures of it) or RGB in [0, 1].

    Raises:
        UserError: an unknown kind or space, `ab313` of RGB, `rescaled` without ranges, classes that are no tensors, a
            shape that does not fit, or (on a CPU) a class outside its range. On CUDA, where a check would make the host
            wait, such a class of `ab313` ends in a device-side assertion, and others give colours outside the space.
    """
    check_kind("lab_dequantize", kind, space)
    check_tensors("lab_dequantize", first=first, rest=rest)
    if first.dim() != 3 or first.shape != rest.shape:
        raise UserError(
            f"lab_dequantize: first {tuple(first.shape)} and rest {tuple(rest.shape)} must have one shape (B, h, w)"
        )
    for name, classes, count in (
        ("first", first, FIRST_BINS),
        ("rest", rest, AB_BINS if kind == "ab313" else REST_BINS**2),
    ):
        check_classes("lab_dequantize", name, classes, count, f"give those of lab_quantize, of the kind {kind!r}")
    if kind == "rescaled":
        if ranges is None:
            raise UserError(
                "lab_dequantize: 'rescaled' bins differ from image to image; give ranges, which "
                "lab_quantize(..., return_ranges=True) returns"
            )
        if ranges.shape != (len(first), 3, 2):
            raise UserError(f"lab_dequantize: ranges must have shape {(len(first), 3, 2)}, got {tuple(ranges.shape)}")
    else:
        ranges = torch.tensor(GRID_RANGES[space], device=first.device)[None]
    low, high = ranges[..., None, None].unbind(2)  # (B, 3, 1, 1) each
    bins = torch.stack([first, rest // REST_BINS, rest % REST_BINS], dim=1)
    counts = torch.tensor([FIRST_BINS, REST_BINS, REST_BINS], device=first.device).view(3, 1, 1)
    colors = low + (bins + 0.5) * (high - low) / counts
    if kind == "ab313":
        colors = torch.cat([colors[:, :1], ab_bins(first.device)[rest].permute(0, 3, 1, 2)], dim=1)
    return colors


def ab_annealed_mean(logits: Tensor, temperature: float = 0.38) -> Tensor:
    """Colours between the mean (temperature 1) and the mode (towards 0) of predicted distributions over the 313 bins.

    Args:
        logits: (B, 313, h, w) float, scores before the softmax.
        temperature: T, above 0.

    Returns:
        (B, 2, h, w) of the logits' dtype, a and b: the mean of the bins under softmax(logits / T). Differentiable.

    Raises:
        UserError: another shape, or a temperature that is not above 0.

    Source: Zhang et al. 2016 (colorful image colorization), equation 5.
    """
    if logits.dim() != 4 or logits.shape[1] != AB_BINS:
        raise UserError(f"ab_annealed_mean: logits must have shape (B, {AB_BINS}, h, w), got {tuple(logits.shape)}")
    if not 0 < temperature < float("inf"):
        raise UserError(f"ab_annealed_mean: temperature is {temperature!r}; it must be a number above 0")
    probabilities = torch.softmax(logits / temperature, dim=1)
    return torch.einsum("bqhw,qc->bchw", probabilities, ab_bins(logits.device).to(logits.dtype))
