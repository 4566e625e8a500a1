"""The reference is `MemoryLoader(source.read(), …)`: the same files through Pillow, in the same order."""

import gc
import io
import sys
import tarfile
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from data.samples import close, load, write

from sslfast.augment import MultiView, presets
from sslfast.data import DaliLoader, MemoryLoader, build_loader, build_source
from sslfast.data.feed import Feed
from sslfast.errors import UserError


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """22 images of mixed sizes in two classes, PNG so that every pixel is exact, and three of them JPEG."""
    root = tmp_path_factory.mktemp("images")
    for number in range(22):
        suffix = "jpg" if number in (3, 11, 20) else "png"
        write(root / "ab"[number % 2] / f"{number:02}.{suffix}", number, size=(8 + number, 40 - number))
    return root


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_are_those_of_the_memory_loader(images, shuffle, drop_last):
    source = build_source("folder", images)
    options = {"shuffle": shuffle, "drop_last": drop_last, "seed": 5}
    ours, theirs = load(source, 4, **options), MemoryLoader(source.read(), 4, **options)
    assert len(ours) == len(theirs) == (5 if drop_last else 6)
    for epoch in (0, 1):
        for a, b in zip(ours.epoch(epoch), theirs.epoch(epoch), strict=True):
            close(a, b, worst=3, mean=1.0)
            assert a.storage.dtype == torch.uint8 and a.sizes.dtype == torch.int32
            assert a.offsets.dtype == a.index.dtype == a.label.dtype == torch.int64


def test_without_labels(images):
    batch = next(load(build_source("folder", images, labels=False), 3).epoch(0))
    assert batch.label is None and len(batch) == 3


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks(images, world_size):
    source = build_source("folder", images)
    whole = source.read()
    seen = []
    for rank in range(world_size):
        options = {"rank": rank, "world_size": world_size, "drop_last": False}
        ours, theirs = load(source, 3, **options), MemoryLoader(whole, 3, **options)
        for a, b in zip(ours.epoch(1), theirs.epoch(1), strict=True):
            close(a, b, worst=3, mean=1.0)
            seen += a.index.tolist()
    assert len(seen) == len(set(seen)) == 22 // world_size * world_size


def test_resume_in_the_middle_of_an_epoch(images):
    loader = load(build_source("folder", images), 4, drop_last=False)
    whole = list(loader.epoch(2))
    for start in range(len(loader) + 1):
        again = list(load(build_source("folder", images), 4, drop_last=False).epoch(2, start))
        assert len(again) == len(whole) - start
        for a, b in zip(again, whole[start:], strict=True):
            close(a, b)
    with pytest.raises(UserError, match="start is 7"):
        next(loader.epoch(2, 7))


def test_epochs_may_be_left_early_and_run_side_by_side(images):
    loader = load(build_source("folder", images), 4)
    expected = [batch.index.tolist() for batch in loader.epoch(0)]
    first, second = loader.epoch(0), loader.epoch(0)
    assert [next(first).index.tolist() for _ in range(3)] == expected[:3]
    assert next(second).index.tolist() == expected[0]
    first.close()
    assert [batch.index.tolist() for batch in second] == expected[1:]


def test_a_batch_is_the_memory_of_dali_and_keeps_it_alive(images, monkeypatch):
    handed_over = []
    wrap = DaliLoader._batch

    def recorded(self, batch, positions):
        handed_over.append([batch[number].__array_interface__["data"][0] for number in range(len(batch))])
        return wrap(self, batch, positions)

    monkeypatch.setattr(DaliLoader, "_batch", recorded)
    source = build_source("folder", images)
    loader = load(source, 4)
    batches = list(loader.epoch(0))
    gc.collect()
    for ours, pointers in zip(batches, handed_over, strict=True):
        assert (ours.offsets + ours.storage.data_ptr()).tolist() == pointers
        packed = (ours.sizes.long().prod(dim=1) * 3).cumsum(0)
        assert ours.offsets.tolist() == [0, *packed[:-1].tolist()] and ours.storage.numel() == packed[-1]
    for ours, theirs in zip(batches, MemoryLoader(source.read(), 4).epoch(0), strict=True):
        close(ours, theirs, worst=3, mean=1.0)  # all of an epoch at once: nothing was written over
    kept = batches.pop().storage[10:2000]
    expected = kept.clone()
    del batches, ours, theirs, loader
    gc.collect()
    for _ in range(3):  # other batches take the memory that is free now
        assert len(list(load(source, 4).epoch(0))) == 5
    assert torch.equal(kept, expected)


def test_views_of_both_loaders_are_the_same(tmp_path):
    for number in range(6):
        write(tmp_path / f"{number}.png", number, size=(40, 50 + number))
    source = build_source("folder", tmp_path)
    views = MultiView(presets.simclr(32), seed=3)
    for ours, theirs in zip(load(source, 3).epoch(1), MemoryLoader(source.read(), 3).epoch(1), strict=True):
        for a, b in zip(views(ours, 1).tensors, views(theirs, 1).tensors, strict=True):
            assert torch.equal(a, b)


def test_archives(images, tmp_path):
    for shard in range(2):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as archive:
            for number, file in enumerate(sorted(images.rglob("*.*"))[shard::2]):
                archive.add(file, f"{number:03}{file.suffix}")
                label = tarfile.TarInfo(f"{number:03}.cls")
                label.size = 1
                archive.addfile(label, io.BytesIO(str(number % 3).encode()))
    source = build_source("webdataset", tmp_path)
    for epoch in (0, 1):
        pairs = zip(load(source, 5).epoch(epoch), MemoryLoader(source.read(), 5).epoch(epoch), strict=True)
        for ours, theirs in pairs:
            close(ours, theirs, worst=3, mean=1.0)


def test_bad_arguments(images):
    source = build_source("folder", images)
    with pytest.raises(UserError, match="batch_size is 64, but the data set has only 22 images"):
        load(source, 64)
    for wrong, message in (
        ({"threads": -1}, "threads is -1; it must be a whole number of at least 0"),
        ({"threads": 1.5}, "threads is 1.5"),
        ({"device": "tpu"}, "device is 'tpu'"),
    ):
        with pytest.raises(UserError, match=message):
            load(source, 4, **wrong)
    with pytest.raises(UserError, match=r"batch_size is 2\.5"):
        load(source, 2.5)
    with pytest.raises(UserError, match="epoch is -1"):
        next(load(source, 4).epoch(-1))
    with pytest.raises(UserError, match=r"Shapes has none; use data 'folder' or 'webdataset'.*--loader memory"):
        load(build_source("shapes", limit=4), 2)


def test_without_dali_the_error_names_what_to_install(images, monkeypatch):
    monkeypatch.setitem(sys.modules, "nvidia.dali", None)
    with pytest.raises(UserError, match=r"pip install 'sslfast\[dali-cuda13\]'"):
        DaliLoader(build_source("folder", images), 4)


def test_a_selection_keeps_what_names_its_images(images):
    source = build_source("folder", images)
    part = source.select(torch.tensor([5, 0, 20, 7]))
    (ours,), whole = load(part, 4, shuffle=False).epoch(0), source.read()
    close(ours, whole.select(part.index), worst=3, mean=1.0)
    close(part.read(), whole.select(part.index))
    again = part.select(slice(1, 3))
    assert again.index.tolist() == [0, 20] and again.label.tolist() == part.label[1:3].tolist()
    assert torch.equal(again.image(1), whole.image(20))
    assert isinstance(build_loader(part, 2), DaliLoader) and isinstance(build_loader(whole, 2), MemoryLoader)


def test_files_are_read_ahead(images, monkeypatch):
    """While the first batch is in use, two more are decoded, and the files of another two are read."""
    read, enough = [], threading.Event()
    content = DaliLoader._content

    def counted(self, position, *file):
        read.append(position)
        if len(read) == 10:
            enough.set()
        return content(self, position, *file)

    monkeypatch.setattr(DaliLoader, "_content", counted)
    batches = load(build_source("folder", images), 2).epoch(0)
    next(batches)
    assert enough.wait(timeout=10)
    batches.close()
    assert len(read) < 22


def test_memory_that_files_were_read_into_is_used_again(images):
    loader, used = load(build_source("folder", images), 4), []
    assert len(list(loader.epoch(0))) == 5
    loader._spare.append(large := np.empty(1 << 20, np.uint8))
    read = loader._read

    def recorded(positions, **options):
        part = read(positions, **options)
        used.append(part.memory)
        return part

    loader._read = recorded
    for epoch in (1, 2, 3):
        expected = MemoryLoader(loader.source.read(), 4).epoch(epoch)
        for ours, theirs in zip(loader.epoch(epoch), expected, strict=True):
            close(ours, theirs, worst=3, mean=1.0)
    assert len(used) == 15 and sum(memory is large for memory in used) >= 3
    assert len(loader._spare) <= 6  # what was ever in hand at once, and the large one


def test_what_dali_decodes_in_place_lives_as_long_as_its_pipeline(images):
    loader = load(build_source("folder", images), 4)
    with ThreadPoolExecutor(1) as readers:
        feed = Feed(loader.order(0).split(4)[:2], loader._read, readers, 1, 2)
        pipeline = loader._pipeline(feed, 2, by_region=False)
        pipeline.run()
        kept = weakref.ref(feed)
        content = {
            image.content.__array_interface__["data"][0]
            for batch in feed.under_way
            for part in batch.parts
            for image in part.images
        }
        assert len(content) == 8  # of the batch that was taken out, too, as nobody has removed it
        del feed
        pipeline.run()
        with pytest.raises(StopIteration):
            pipeline.run()
        gc.collect()
        assert kept() is not None
        del pipeline
        gc.collect()
        assert kept() is None


def rank_of_two(rank, root, store):
    torch.distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=2)
    loader = DaliLoader(build_source("folder", root), 3, rank=rank, world_size=2, threads=1, seed=4)
    for epoch in (0, 1):
        start = epoch  # the second epoch goes on after its first batch
        mine = torch.stack([batch.index for batch in loader.epoch(epoch, start)])
        both = [torch.empty_like(mine) for _ in range(2)]
        torch.distributed.all_gather(both, mine)
        if rank == 0:
            torch.save(torch.stack(both, dim=1), f"{store}-{epoch}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes(images, tmp_path):
    """In every step the ranks together hold consecutive images of the order that one process would draw."""
    pytest.importorskip("nvidia.dali")
    torch.multiprocessing.spawn(rank_of_two, (images, tmp_path / "store"), nprocs=2)
    alone = load(build_source("folder", images), 6, seed=4)
    steps = [torch.load(tmp_path / f"store-{epoch}.pt") for epoch in (0, 1)]  # (batches, rank, 3) positions
    for epoch, seen in enumerate(steps):
        together = seen.transpose(1, 2).flatten(1)  # rank 0 has the even places of a step
        assert together.tolist() == [batch.index.tolist() for batch in alone.epoch(epoch, epoch)]
        assert together.unique().numel() == together.numel() == 18 - 6 * epoch
    assert steps[0][1:].tolist() != steps[1].tolist()
