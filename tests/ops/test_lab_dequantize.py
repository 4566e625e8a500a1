"""The bins of the ab plane against the published list and their rule; classes and logits back to colours."""

import pytest
import torch
from ops.samples_lab_quantize import KINDS
from ops.test_lab_quantize import photo
from scipy.spatial import ConvexHull

from sslfast.errors import UserError
from sslfast.ops import ab_annealed_mean, ab_bins, lab_dequantize, lab_quantize
from sslfast.ops.reference import lab as reference

# The published list of 313: least and greatest b for each a from -90 to 100.
PUBLISHED = [
    *((50, 90), (20, 90), (0, 90), (-20, 90), (-30, 100), (-40, 100), (-50, 100), (-50, 100), (-60, 100), (-70, 100)),
    *(
        (-80, 90),
        (-80, 90),
        (-90, 90),
        (-100, 90),
        (-100, 80),
        (-110, 80),
        (-110, 80),
        (-110, 70),
        (-110, 70),
        (-90, 0),
    ),
]


def test_bins_are_the_published_ones():
    published = [
        (a, b) for a, (low, high) in zip(range(-90, 101, 10), PUBLISHED, strict=True) for b in range(low, high + 1, 10)
    ]
    assert len(published) == 313
    assert ab_bins().tolist() == [list(map(float, point)) for point in published]


def test_bins_follow_their_rule():
    """Corners of the cells that the convex hull enters, with points drawn all over the hull in place of its edges."""
    levels = torch.linspace(0, 1, 86, dtype=torch.float64)
    faces = [torch.stack(torch.meshgrid(levels, levels, levels[[end]], indexing="ij")) for end in (0, -1)]
    surface = torch.cat([face.roll(turn, 0).flatten(1) for face in faces for turn in range(3)], 1)
    points = reference.rgb_to_lab(surface[None, :, None])[0, 1:, 0].T.numpy()
    corners = torch.from_numpy(points[ConvexHull(points).vertices])
    edges = torch.cat([corners + t * (corners.roll(-1, 0) - corners) for t in torch.linspace(0, 1, 2000).tolist()])
    inside = torch.cat([edges * r for r in torch.linspace(0, 1, 30).tolist()])  # gray lies inside
    cells = (inside / 10).floor().unique(dim=0)
    around = (cells[:, None] + torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])).flatten(0, 1).unique(dim=0)
    assert torch.equal(around * 10, ab_bins().double())


@pytest.mark.parametrize("label", KINDS)
def test_classes_and_back(label):
    """Every cell's colour lies within half a bin of what its class stands for."""
    kind, space = KINDS[label]
    images = photo()
    first, rest, ranges = lab_quantize(images, (16, 16), kind, space, return_ranges=True)
    colors = lab_dequantize(first, rest, kind, space, ranges)
    assert colors.shape == (3, 3, 16, 16) and colors.dtype == torch.float32
    means = reference.channel_means(images, (16, 16), space)
    low, high = reference.bin_ranges(means, kind, space)
    half = (high - low) / reference.BINS / 2
    if kind == "ab313":
        half = torch.cat([half[:, :1], torch.full_like(half[:, 1:], 5.0)], dim=1)
    error = (colors - means).abs()
    assert (error <= half + 0.01).all() and (error > half / 2).any()


def test_annealed_mean_is_the_formula():
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(2, 313, 3, 4, generator=generator)).double().requires_grad_()
    z = logits.softmax(1)
    powers = (z.log() / 0.38).exp()
    expected = torch.einsum("bqhw,qc->bchw", powers / powers.sum(1, keepdim=True), ab_bins().double())
    torch.testing.assert_close(ab_annealed_mean(logits), expected)
    torch.testing.assert_close(
        *(
            torch.autograd.grad(value.square().sum(), logits, retain_graph=True)[0]
            for value in (ab_annealed_mean(logits), expected)
        )
    )


def test_annealed_mean_between_mean_and_mode():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 313, 3, 4, generator=generator)
    mode = ab_bins()[logits.argmax(1)].permute(0, 3, 1, 2)
    torch.testing.assert_close(ab_annealed_mean(logits, 1e-4), mode)
    mean = torch.einsum("bqhw,qc->bchw", logits.softmax(1), ab_bins())
    torch.testing.assert_close(ab_annealed_mean(logits, 1.0), mean)
    assert ab_annealed_mean(logits.bfloat16()).dtype == torch.bfloat16


CLASSES = torch.zeros(2, 4, 4, dtype=torch.int64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lab_dequantize(CLASSES, CLASSES, "rescaled"), "return_ranges=True"),
        (lambda: lab_dequantize(CLASSES, CLASSES, "rescaled", ranges=torch.zeros(1, 3, 2)), r"shape \(2, 3, 2\)"),
        (lambda: lab_dequantize(CLASSES, CLASSES[:1]), "one shape"),
        (lambda: lab_dequantize(CLASSES[0], CLASSES[0]), "one shape"),
        (lambda: lab_dequantize(CLASSES, CLASSES, "ab313", "rgb"), "of Lab"),
        (lambda: lab_dequantize(CLASSES, CLASSES, "ab31"), "did you mean 'ab313'"),
        (lambda: lab_dequantize([[0]], CLASSES), "first must be a tensor, got a list"),
        (lambda: lab_dequantize(CLASSES + 500, CLASSES), "first holds classes from 500 to 500, and they are 0 to 99"),
        (lambda: lab_dequantize(CLASSES, CLASSES + 100), "rest holds .* 0 to 99; give those of lab_quantize"),
        (lambda: lab_dequantize(CLASSES, CLASSES + 313, "ab313"), "rest holds .* 0 to 312"),
        (lambda: lab_dequantize(CLASSES, CLASSES - 1, "ab313"), "rest holds classes from -1"),
        (lambda: ab_annealed_mean(torch.zeros(2, 312, 4, 4)), "313"),
        (lambda: ab_annealed_mean(torch.zeros(313, 4)), "313"),
        (lambda: ab_annealed_mean(torch.zeros(2, 313, 4, 4), 0.0), "above 0"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(UserError, match=message):
        call()
