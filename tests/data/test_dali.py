"""The reference is `MemoryLoader(source.read(), …)`: the same files through Pillow, in the same order."""

import gc
import io
import os
import struct
import sys
import tarfile
import threading
import weakref
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sslfast.augment import MultiView, presets
from sslfast.data import DaliLoader, MemoryLoader, build_loader, build_source
from sslfast.data.dali import Feed, decodable
from sslfast.data.decode import decode_image
from sslfast.errors import DataError, UserError

DATA = Path(os.environ.get("SSLFAST_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))


def load(source, batch_size, **options):
    pytest.importorskip("nvidia.dali")
    return DaliLoader(source, batch_size, **{"threads": 1} | options)


def smooth(height, width, seed=0):
    """(height, width, 3) uint8 without sharp edges, which JPEG keeps nearly as they are."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [128 + 100 * np.sin(3 * x + seed + k) * np.cos(2 * y - k) for k in range(3)]
    return np.stack(waves, axis=-1).round().astype(np.uint8)


def write(path, seed=0, size=(24, 32), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(smooth(*size, seed)).save(path, **options)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """22 images of mixed sizes in two classes, PNG so that every pixel is exact, and three of them JPEG."""
    root = tmp_path_factory.mktemp("images")
    for number in range(22):
        suffix = "jpg" if number in (3, 11, 20) else "png"
        write(root / "ab"[number % 2] / f"{number:02}.{suffix}", number, size=(8 + number, 40 - number))
    return root


def close(ours, theirs, worst=0, mean=0.0):
    """Whether two batches are the same but for the rounding of their decoders."""
    assert ours.index.tolist() == theirs.index.tolist() and ours.sizes.tolist() == theirs.sizes.tolist()
    assert ours.channels == theirs.channels and ours.label.tolist() == theirs.label.tolist()
    for position in range(len(ours)):
        difference = (ours.image(position).int() - theirs.image(position).int()).abs()
        assert difference.max() <= worst and difference.float().mean() <= mean


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


def png16(values):
    """A PNG of 16 bits a channel, which Pillow cannot write."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """One image of every kind of file; those of `exact` have no rounding."""
    root = tmp_path_factory.mktemp("kinds")
    rgb = smooth(30, 44)
    image = Image.fromarray(rgb)
    for name, options in {
        "a.jpg": {"quality": 95},
        "progressive.jpg": {"progressive": True},
        "subsampled.jpg": {"subsampling": "4:2:0"},
        "a.webp": {"quality": 90},
        "a.bmp": {},
        "a.tiff": {},
    }.items():
        image.save(root / name, **options)
    image.convert("L").save(root / "gray.jpg", quality=95)
    image.convert("L").save(root / "gray.png")
    image.convert("CMYK").save(root / "cmyk.jpg", quality=95)
    cmyk = (root / "cmyk.jpg").read_bytes()
    adobe = cmyk.index(b"Adobe")  # in its segment behind marker and length, and before the colour transform
    (root / "ycck.jpg").write_bytes(cmyk[: adobe + 11] + b"\2" + cmyk[adobe + 12 :])
    (root / "cmyk_unmarked.jpg").write_bytes(cmyk[: adobe - 4] + cmyk[adobe + 12 :])
    image.save(root / "rgb.jpg", quality=95, keep_rgb=True)
    image.save(root / "restarts.jpg", quality=95, restart_marker_blocks=2)
    image.quantize(16).save(root / "palette.png")
    image.quantize(16).save(root / "a.gif")
    Image.fromarray(np.dstack([rgb, rgb[::-1, :, 0]])).save(root / "alpha.png")
    Image.fromarray(rgb[..., 0].astype(np.uint16) * 257).save(root / "gray16.png")
    (root / "rgb16.png").write_bytes(png16(rgb.astype(np.uint16) * 257))
    image.save(root / "png_named.jpg", format="PNG")
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.save(root / f"exif{orientation}.jpg", exif=exif, quality=95)
    Image.new("RGB", (1, 1), (1, 200, 3)).save(root / "pixel.jpg", quality=100)
    return root


@pytest.mark.parametrize("channels", [3, 1])
def test_every_kind_of_file_is_what_pillow_makes_of_it(kinds, channels):
    source = build_source("folder", kinds, channels=channels)
    (ours,), expected = load(source, len(source), shuffle=False).epoch(0), source.read()
    assert ours.sizes.tolist() == expected.sizes.tolist()
    for position, file in enumerate(source.files):
        difference = (ours.image(position).int() - expected.image(position).int()).abs().float()
        exact = Path(file).suffix != ".jpg" or any(name in file for name in ("png_named", "cmyk", "ycck"))
        worst, mean = (0, 0) if exact else (6, 1.2)
        assert difference.max() <= worst and difference.mean() <= mean, file


@pytest.mark.parametrize("channels", [3, 1])
def test_images_are_shrunk_as_in_memory(kinds, channels):
    """Sizes are equal, and smaller images are left alone to the last bit."""
    for shorter in (7, 29, 30, 100):
        source = build_source("folder", kinds, channels=channels, resize_shorter=shorter)
        (ours,), expected = load(source, len(source), shuffle=False).epoch(0), source.read()
        assert ours.sizes.tolist() == expected.sizes.tolist()
        assert ours.sizes.min(dim=1).values.tolist() == [1 if "pixel" in f else min(shorter, 30) for f in source.files]
        for position, file in enumerate(source.files):
            difference = (ours.image(position).int() - expected.image(position).int()).abs().float()
            assert difference.max() <= (6 if shorter >= 30 else 9) and difference.mean() <= 1.5, (shorter, file)


def test_from_one_pixel_to_a_large_photograph(tmp_path):
    """One batch, one storage: views of it are those of images that were read one by one."""
    for number, size in enumerate([(1, 1), (1632, 2400), (2, 500), (300, 1), (33, 17)]):
        write(tmp_path / f"{number}.jpg", number, size=size, quality=95)
    source = build_source("folder", tmp_path)
    (ours,), expected = load(source, 5, shuffle=False).epoch(0), source.read()
    assert ours.sizes.tolist() == expected.sizes.tolist()
    for position in range(5):
        assert (ours.image(position).int() - expected.image(position).int()).abs().max() <= 6
    views = MultiView([presets.plain(24)[0]])
    assert (views(ours).tensors[0] - views(expected).tensors[0]).abs().max() <= 6 / 255 / 0.2


def test_photos():
    photos = DATA / "photos"
    if not photos.is_dir():
        pytest.skip(f"needs photos in {photos}; name their parent folder in SSLFAST_TEST_DATA")
    source = build_source("folder", photos, limit=16)
    loader = load(source, 8, seed=1)
    expected = source.read()
    seen = []
    for batch in loader.epoch(0):
        for position, index in enumerate(batch.index.tolist()):
            difference = (batch.image(position).int() - expected.image(index).int()).abs().float()
            assert difference.mean() <= 1.0, source.files[index]
            assert (difference > 8).float().mean() <= 0.01, source.files[index]
        seen += batch.index.tolist()
    assert sorted(seen) == list(range(16))


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


def damaged(kind):
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG" if kind == "truncated.png" else "JPEG")
    content = buffer.getvalue()
    return {
        "truncated.jpg": content[: len(content) // 2],
        "header_only.jpg": content[:40],
        "truncated.png": content[: len(content) // 2],
        "empty.jpg": b"",
        "text.jpg": b"<html>not found</html>",
    }[kind]


KINDS = ["truncated.jpg", "header_only.jpg", "truncated.png", "empty.jpg", "text.jpg"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_named(tmp_path, kind):
    for number in range(6):
        write(tmp_path / f"{number}.jpg", number)
    (tmp_path / kind).write_bytes(damaged(kind))
    loader = load(build_source("folder", tmp_path), 3, drop_last=False)
    with pytest.raises(DataError, match=rf"{kind} cannot be decoded .*--on-error skip"):
        list(loader.epoch(0))


@pytest.mark.parametrize("kind", KINDS)
def test_a_skipped_file_is_reported_and_replaced(tmp_path, kind):
    for number in range(7):
        write(tmp_path / f"{number}.jpg", number)
    (tmp_path / "3.jpg").unlink()
    (tmp_path / f"3{kind}").write_bytes(damaged(kind))
    source = build_source("folder", tmp_path, on_error="skip")
    loader = load(source, 3, shuffle=False, drop_last=False)
    with pytest.warns(UserWarning, match=rf"skipped 1 of 7 .*3{kind}") as caught:
        batches = list(loader.epoch(0))
    assert len(caught) == 1
    assert [batch.index.tolist() for batch in batches] == [[0, 1, 2], [4, 4, 5], [6]]
    assert list(loader.skipped) == [str(tmp_path / f"3{kind}")] and all(loader.skipped.values())
    again = list(loader.epoch(0, 1))  # known by now: no second warning
    assert [batch.index.tolist() for batch in again] == [[4, 4, 5], [6]]
    np.testing.assert_allclose(batches[1].image(0), decode_image(tmp_path / "4.jpg"), atol=6)


def test_a_missing_file_is_named(tmp_path):
    for number in range(4):
        write(tmp_path / f"{number}.jpg", number)
    source = build_source("folder", tmp_path)
    loader = load(source, 2)
    (tmp_path / "2.jpg").unlink()
    with pytest.raises(DataError, match=r"2\.jpg cannot be decoded"):
        list(loader.epoch(0))


def test_nothing_but_damaged_files(tmp_path):
    for number in range(4):
        (tmp_path / f"{number}.jpg").write_bytes(b"\xff\xd8\xff nothing")
    loader = load(build_source("folder", tmp_path, on_error="skip"), 2)
    with pytest.raises(DataError, match="none of the images"):
        list(loader.epoch(0))


def test_a_file_that_only_pillow_decodes(tmp_path, monkeypatch):
    for number in range(6):
        write(tmp_path / f"{number}.jpg", number)
    source = build_source("folder", tmp_path)
    loader = load(source, 2, shuffle=False)
    content = DaliLoader._content

    def garbled(self, position):  # as if DALI could not decode the third file
        found = content(self, position)
        return found[:100] if position == 2 and bytes(found[:2]) == b"\xff\xd8" else found

    monkeypatch.setattr(DaliLoader, "_content", garbled)
    batches = list(loader.epoch(0))
    assert [batch.index.tolist() for batch in batches] == [[0, 1], [2, 3], [4, 5]] and loader.skipped == {}
    assert torch.equal(batches[1].image(0), source.read().image(2))


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


def test_what_can_be_decoded(tmp_path):
    for number in range(7):
        write(tmp_path / "ab"[number % 2] / f"{number}.jpg", number)
    (tmp_path / "a" / "4.jpg").write_bytes(b"text")
    assert decodable(build_source("folder", tmp_path)).files == build_source("folder", tmp_path).files
    source = build_source("folder", tmp_path, on_error="skip")
    with pytest.warns(UserWarning, match="skipped 1 of 7"):
        kept = decodable(source)
    assert [Path(file).stem for file in kept.files] == ["0", "1", "2", "3", "5", "6"]
    assert kept.index.tolist() == [0, 1, 2, 3, 5, 6] and kept.label.tolist() == [0, 1, 0, 1, 1, 0]


def test_files_are_read_ahead(images, monkeypatch):
    """While the first batch is in use, the next is decoded, and the files of two more are read."""
    read, enough = [], threading.Event()
    content = DaliLoader._content

    def counted(self, position):
        read.append(position)
        if len(read) == 8:
            enough.set()
        return content(self, position)

    monkeypatch.setattr(DaliLoader, "_content", counted)
    batches = load(build_source("folder", images), 2).epoch(0)
    next(batches)
    assert enough.wait(timeout=10)
    batches.close()
    assert len(read) < 22


def test_what_dali_decodes_in_place_lives_as_long_as_its_pipeline(images):
    loader = load(build_source("folder", images), 4)
    with ThreadPoolExecutor(1) as readers:
        feed = Feed(loader.order(0).split(4)[:2], loader._read, readers, 1)
        pipeline = loader._pipeline(feed)
        pipeline.run()
        kept = weakref.ref(feed)
        content = {image.content.__array_interface__["data"][0] for batch in feed.under_way for image in batch}
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
