import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import RidgeClassifier

from sslfast.data import MemoryLoader, build_source
from sslfast.data.sources.shapes import FORMS, Shapes, _Draws, render
from sslfast.errors import UserError

AXIS = np.linspace(-1.2, 1.2, 241)
PLANE = np.meshgrid(AXIS, AXIS)


def digest(images):
    return int(np.dot(images.reshape(-1).astype(np.int64), np.arange(images.size) % 9973))


def test_read_gives_balanced_labelled_images():
    source = build_source("shapes", count=25, size=40)
    images = source.read()
    assert len(source) == len(images) == 25
    assert images.sizes.tolist() == [[40, 40]] * 25 and images.channels == 3
    assert images.label.tolist() == [*range(10), *range(10), *range(5)]
    assert source.classes == list(FORMS) and len(source.classes) == 10
    assert next(MemoryLoader(images, 10).epoch(0)).storage.data_ptr() == images.storage.data_ptr()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 5000), min_size=1, max_size=30), st.sampled_from([8, 17, 32]))
def test_an_index_is_the_same_image_in_any_set_and_order(indices, size):
    together = render(np.array(indices), size=size)
    for position in {0, len(indices) // 2, len(indices) - 1}:
        np.testing.assert_array_equal(
            together[position], render(np.array(indices[position : position + 1]), size=size)[0]
        )


def test_chunks_do_not_show():
    many = Shapes(count=1500).read()
    few = Shapes(count=1500, limit=40).read()
    assert torch.equal(many.storage[: few.storage.numel()], few.storage)


def test_another_process_renders_the_same():
    code = (
        "import numpy as np; from sslfast.data.sources.shapes import render; images = render(np.arange(20), 'test');"
        "print(int(np.dot(images.reshape(-1).astype(np.int64), np.arange(images.size) % 9973)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(printed) == digest(render(np.arange(20), "test"))


def test_splits_and_seeds_share_no_image_and_no_random_number():
    streams = [("train", 0), ("test", 0), ("train", 1), ("train", 2**63), ("train", -1)]
    numbers = {float(_Draws(np.arange(i, i + 1), *stream)().item()) for stream in streams for i in range(200)}
    assert len(numbers) > 0.999 * 5 * 200
    images = [render(np.arange(30), split, seed=seed).reshape(30, -1) for split, seed in streams]
    assert len({image.tobytes() for part in images for image in part}) == 5 * 30


def test_the_scene_is_the_same_at_any_size():
    small, large = (render(np.arange(60), size=size).astype(float) for size in (32, 128))
    shrunk = large.reshape(60, 32, 4, 32, 4, 3).mean((2, 4))
    assert np.abs(small - shrunk).mean() < 4
    others = np.roll(shrunk, 10, axis=0)  # other scenes of the same classes
    assert np.abs(small - others).mean() > 30


@pytest.mark.parametrize("name", FORMS)
def test_forms_fit_the_unit_disc_and_are_distances(name):
    distance = FORMS[name](*PLANE)
    inside = distance < 0
    assert 0.15 < inside.mean() * 2.4**2 < 3.0  # area, of pi at most
    assert np.hypot(*PLANE)[inside].max() <= 1.15
    down, right = np.gradient(distance, AXIS[1] - AXIS[0])
    edge = np.abs(distance) < 0.03
    steepness = np.hypot(down, right)[edge]
    assert 0.6 < np.median(steepness) < 1.4  # a unit step changes it by about one, so edges are one pixel wide


def test_no_two_forms_coincide_under_a_flip():
    masks = {name: form(*PLANE) < 0 for name, form in FORMS.items()}
    for first, a in masks.items():
        for second, b in masks.items():
            if first < second:
                for flipped in (b, b[:, ::-1]):
                    assert (a & flipped).sum() / (a | flipped).sum() < 0.9, (first, second)


def test_a_linear_probe_on_pixels_fails():
    train, test = (render(np.arange(2000), split).reshape(2000, -1) / 255.0 - 0.5 for split in ("train", "test"))
    label = np.arange(2000) % 10
    accuracy = max(RidgeClassifier(alpha=a).fit(train, label).score(test, label) for a in (100.0, 3000.0))
    assert accuracy < 0.25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"root": "somewhere"}, "leave out root"),
        ({"split": "val"}, "split is 'val'"),
        ({"size": 4}, "size is 4; it must be a whole number of at least 8"),
        ({"size": "32"}, "option size='32' of data 'shapes' must be a whole number; YAML reads this as text, write 32"),
        ({"seed": 2**64}, "seed is 18446744073709551616; it must be a whole number"),
        ({"seed": "one"}, "option seed='one' of data 'shapes' must be a whole number"),
        ({"count": 0}, "count is 0"),
        ({"colour": 1}, "no option 'colour'; valid names: "),
        ({"channels": 1}, "no option 'channels'; valid names: count, limit, seed, size"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(UserError, match=message):
        build_source("shapes", **options)
