import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sslfast.data import ImageBatch
from sslfast.errors import UserError


def test_dense_is_a_view_of_the_callers_memory():
    images = torch.arange(2 * 3 * 4 * 3, dtype=torch.uint8).view(2, 3, 4, 3)
    batch = ImageBatch.from_dense(images, label=torch.tensor([5, 6]))
    assert batch.storage.data_ptr() == images.data_ptr()
    assert batch.offsets.tolist() == [0, 36] and batch.offsets.dtype == torch.int64
    assert batch.sizes.tolist() == [[3, 4], [3, 4]] and batch.sizes.dtype == torch.int32
    assert batch.index.tolist() == [0, 1] and batch.label.tolist() == [5, 6]
    for position in range(2):
        assert torch.equal(batch.image(position), images[position])


def test_dense_channels_first_view_is_packed_in_the_right_order():
    images = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8).permute(0, 2, 3, 1)
    batch = ImageBatch.from_dense(images)
    assert torch.equal(batch.image(1), images[1])


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), max_size=6),
    channels=st.integers(1, 16),
    seed=st.integers(0, 99),
)
def test_list_keeps_every_image(sizes, channels, seed):
    generator = torch.Generator().manual_seed(seed)
    images = [torch.randint(0, 256, (h, w, channels), generator=generator).byte() for h, w in sizes]
    batch = ImageBatch.from_list(images)
    assert len(batch) == len(images)
    assert batch.storage.numel() == sum(image.numel() for image in images)
    for position, image in enumerate(images):
        assert torch.equal(batch.image(position), image)
    order = torch.randperm(len(images), generator=generator)
    selected = batch.select(order)
    assert selected.storage.data_ptr() == batch.storage.data_ptr()
    for position, source in enumerate(order.tolist()):
        assert torch.equal(selected.image(position), images[source])
        assert selected.index[position] == source


def test_list_of_gray_images_without_a_channel_dimension():
    batch = ImageBatch.from_list([torch.full((2, 3), 7, dtype=torch.uint8)])
    assert batch.channels == 1 and batch.image(0).shape == (2, 3, 1)


def test_select_by_slice_shares_tables_and_storage():
    batch = ImageBatch.from_dense(torch.zeros(5, 2, 2, 1, dtype=torch.uint8), label=torch.arange(5))
    part = batch.select(slice(1, 3))
    assert part.index.tolist() == [1, 2] and part.label.tolist() == [1, 2]
    assert part.offsets.data_ptr() == batch.offsets[1:].data_ptr()


def test_to_the_same_device_copies_nothing():
    batch = ImageBatch.from_dense(torch.zeros(2, 2, 2, 3, dtype=torch.uint8))
    assert batch.to("cpu").storage.data_ptr() == batch.storage.data_ptr()


PIXELS = torch.zeros(2, 4, 4, 3, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ImageBatch.from_dense(PIXELS.float()), "must be uint8"),
        (lambda: ImageBatch.from_dense(PIXELS[0]), "4 dimensions"),
        (lambda: ImageBatch.from_dense(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)), "permute"),
        (lambda: ImageBatch.from_dense(torch.zeros(2, 0, 4, 3, dtype=torch.uint8)), "no pixels"),
        (lambda: ImageBatch.from_dense(PIXELS, label=torch.zeros(3, dtype=torch.int64)), "one entry per image"),
        (lambda: ImageBatch.from_dense(PIXELS, label=torch.zeros(2)), "whole numbers"),
        (lambda: ImageBatch.from_list([PIXELS[0], PIXELS[0, :, :, :1]]), r"images\[1\] has 1 channels"),
        (lambda: ImageBatch.from_list([PIXELS[0], PIXELS]), r"images\[1\] must have 3 dimensions"),
        (lambda: ImageBatch.from_list([PIXELS[0], PIXELS[0].to("meta")]), "is on meta"),
    ],
)
def test_wrong_images_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()
