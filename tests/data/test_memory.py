from itertools import chain

import pytest
import torch

from sslfast.data import ImageBatch, MemoryLoader
from sslfast.errors import UserError


def make_images(count):
    pixels = torch.arange(count, dtype=torch.uint8).view(count, 1, 1, 1).expand(count, 2, 3, 3).contiguous()
    return ImageBatch.from_dense(pixels, label=torch.arange(count) % 3)


def indices(batches):
    return [batch.index.tolist() for batch in batches]


def flat(lists):
    return list(chain.from_iterable(lists))


def test_an_epoch_holds_every_image_once_with_its_pixels_and_label():
    loader = MemoryLoader(make_images(23), 5, drop_last=False)
    batches = list(loader.epoch(0))
    assert [len(batch) for batch in batches] == [5, 5, 5, 5, 3] and len(loader) == 5
    assert sorted(flat(indices(batches))) == list(range(23))
    for batch in batches:
        for position, index in enumerate(batch.index.tolist()):
            assert batch.label[position] == index % 3
            assert (batch.image(position) == index).all()


def test_drop_last_leaves_out_the_incomplete_batch():
    loader = MemoryLoader(make_images(23), 5)
    assert len(loader) == 4 and [len(batch) for batch in loader.epoch(0)] == [5] * 4


def test_no_batch_copies_pixels():
    images = make_images(20)
    loader = MemoryLoader(images, 4)
    assert {batch.storage.data_ptr() for batch in loader.epoch(0)} == {images.storage.data_ptr()}


def test_order_depends_on_seed_and_epoch_only():
    images = make_images(64)
    loader = MemoryLoader(images, 8, seed=3)
    first = indices(loader.epoch(0))
    second = indices(loader.epoch(1))
    assert first != second
    assert indices(loader.epoch(0)) == first
    assert indices(MemoryLoader(images, 8, seed=3).epoch(1)) == second
    assert flat(indices(MemoryLoader(images, 16, seed=3).epoch(0))) == flat(first)
    seeds = (0, 1, 2**32, 2**63 - 1, -1)
    assert len({tuple(MemoryLoader(images, 8, seed=s).order(e).tolist()) for s in seeds for e in range(5)}) == 25


def test_without_shuffle_the_order_is_that_of_the_set():
    loader = MemoryLoader(make_images(6), 2, shuffle=False)
    assert indices(loader.epoch(7)) == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize("drop_last", [True, False])
def test_resume_in_the_middle_of_an_epoch(drop_last):
    loader = MemoryLoader(make_images(22), 4, drop_last=drop_last)
    whole = indices(loader.epoch(2))
    for start in range(len(loader) + 1):
        assert indices(loader.epoch(2, start)) == whole[start:]
    with pytest.raises(UserError, match="start is"):
        next(loader.epoch(2, len(loader) + 1))


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_ranks_are_disjoint_equal_and_form_the_same_global_batches(world_size, drop_last):
    images = make_images(26)
    ranks = [
        MemoryLoader(images, 3, drop_last=drop_last, rank=rank, world_size=world_size) for rank in range(world_size)
    ]
    per_rank = [indices(loader.epoch(1)) for loader in ranks]
    assert len({tuple(map(len, batches)) for batches in per_rank}) == 1
    seen = [index for batches in per_rank for batch in batches for index in batch]
    assert len(seen) == len(set(seen))
    assert len(seen) == (26 // world_size // 3 * 3 if drop_last else 26 // world_size) * world_size
    single = MemoryLoader(images, 3 * world_size)
    for step, together in enumerate(indices(single.epoch(1))):
        assert sorted(together) == sorted(index for batches in per_rank for index in batches[step])


def test_too_few_images_name_both_numbers_and_the_cure():
    with pytest.raises(UserError, match=r"batch_size is 64.* only 10 images; set batch_size to at most 10"):
        MemoryLoader(make_images(10), 64)
    with pytest.raises(UserError, match=r"64 on each of 4 ranks.* only 10 images; set batch_size to at most 2"):
        MemoryLoader(make_images(10), 64, world_size=4)
    assert [len(batch) for batch in MemoryLoader(make_images(10), 64, drop_last=False).epoch(0)] == [10]


@pytest.mark.parametrize("drop_last", [True, False])
def test_an_empty_set_is_an_error(drop_last):
    empty = ImageBatch.from_list([])
    with pytest.raises(UserError, match="empty"):
        MemoryLoader(empty, 1, drop_last=drop_last)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 2.5}, "batch_size is 2.5; it must be a whole number of at least 1"),
        ({"rank": 2, "world_size": 2}, "rank is 2"),
        ({"rank": 0.5}, "rank is 0.5"),
        ({"world_size": 0}, "world_size is 0"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"seed": 2**64}, "seed is 18446744073709551616"),
        ({"device": "tpu"}, "device is 'tpu'; it must be 'cpu' or 'cuda'"),
        ({"device": "meta"}, "device is 'meta'"),
        ({"device": None}, "device is None"),
        ({"device": "cuda:99"}, "device is 'cuda:99' and torch finds .* GPUs"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(UserError, match=message):
        MemoryLoader(make_images(4), **{"batch_size": 1, **arguments})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1,), "epoch is -1; it must be a whole number of at least 0"),
        ((0.5,), "epoch is 0.5"),
        ((0, 5), "start is 5, and an epoch has 4 batches"),
        ((0, 0.5), "start is 0.5"),
    ],
)
def test_bad_places_in_training(arguments, message):
    with pytest.raises(UserError, match=message):
        next(MemoryLoader(make_images(4), 1).epoch(*arguments))


@pytest.mark.cuda
def test_order_and_pixels_are_the_same_on_the_gpu():
    images = make_images(40)
    on_cpu, on_gpu = MemoryLoader(images, 8), MemoryLoader(images, 8, device="cuda")
    for a, b in zip(on_cpu.epoch(3), on_gpu.epoch(3), strict=True):
        assert b.storage.is_cuda and torch.equal(a.index, b.index.cpu()) and torch.equal(a.image(0), b.image(0).cpu())
