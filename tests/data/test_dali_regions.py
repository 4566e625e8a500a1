"""Decoding no more of an image than its views need: the views are those of the whole images, bit by bit."""

import io
import tarfile

import numpy as np
import pytest
import torch
from data.samples import load, smooth, write
from PIL import Image

from sslfast.augment import MultiView, ViewSpec, presets
from sslfast.data import ImageBatch, MemoryLoader, build_source
from sslfast.errors import DataError, UserError
from sslfast.methods import build

EPOCH = 2
COUNT = 20
SIZES = [(40 + 9 * k, 190 - 7 * k) for k in range(COUNT)]
VIEWS = {
    "simclr": presets.simclr(32),
    "multi-crop": presets.swav(48, local_size=16),
    "one small crop": [ViewSpec(24, crop_scale=(0.01, 0.05), rotation_range=(-90.0, 90.0), blur=1.0)],
    "centre": presets.plain(32),
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """JPEGs of many sizes and kinds, turned by EXIF, gray, of inks and progressive; and PNG."""
    root = tmp_path_factory.mktemp("images")
    for k, (height, width) in enumerate(SIZES):
        picture = Image.fromarray(smooth(height, width, k))
        exif = Image.Exif()
        if 3 <= k < 13:
            exif[0x0112] = k - 3
        mode = {13: "L", 14: "CMYK"}.get(k, "RGB")
        picture.convert(mode).save(root / f"{k:02}.jpg", exif=exif, progressive=k % 3 == 0, subsampling=k % 3)
    write(root / "20.png", seed=20, size=(70, 50))
    return root


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("views", VIEWS)
def test_views_of_regions_are_those_of_whole_images(images, views, channels):
    source = build_source("folder", images, labels=False, channels=channels)
    specs = VIEWS[views]
    if channels == 1:
        specs = [spec.replace(saturation=0.0, hue=0.0, grayscale=0.0, mean=(0.5,), std=(0.25,)) for spec in specs]
    multi_view = MultiView(specs, seed=3)
    options = {"seed": 5, "drop_last": False, "threads": 2}
    whole = load(source, 4, **options).epoch(EPOCH)
    parts = load(source, 4, regions=multi_view.regions, **options).epoch(EPOCH)
    bytes_whole = bytes_part = 0
    for full, part in zip(whole, parts, strict=True):
        assert full.region is None and torch.equal(part.whole_sizes, full.sizes)
        assert torch.equal(part.index, full.index)
        for position in range(len(part)):
            top, left, *_ = part.region[position].tolist()
            height, width = part.sizes[position].tolist()
            assert torch.equal(part.image(position), full.image(position)[top : top + height, left : left + width])
        ours, theirs = multi_view(part, EPOCH), multi_view(full, EPOCH)
        for a, b in zip(ours.tensors + ours.params, theirs.tensors + theirs.params, strict=True):
            assert torch.equal(a, b)
        bytes_whole += full.storage.numel()
        bytes_part += part.storage.numel()
    assert bytes_part < bytes_whole  # these pictures are not square, so even the centre is less


def test_a_region_holds_the_crops_and_no_more():
    sizes = torch.tensor(SIZES, dtype=torch.int32)
    index = torch.arange(COUNT)
    multi_view = MultiView(VIEWS["multi-crop"], seed=1)
    top, left, height, width = multi_view.regions(index, sizes, 7).unbind(1)
    batch = ImageBatch.from_list([torch.zeros(*size, 3, dtype=torch.uint8) for size in SIZES], index)
    views = multi_view(batch, 7)
    count = range(len(views.params))
    column = {
        name: torch.stack([views.column(k, f"crop_{name}") for k in count])
        for name in ("top", "left", "height", "width")
    }
    assert torch.equal(top, column["top"].amin(0)) and torch.equal(left, column["left"].amin(0))
    assert torch.equal(top + height, (column["top"] + column["height"]).amax(0))
    assert torch.equal(left + width, (column["left"] + column["width"]).amax(0))


def test_in_order_and_shrunk_images_are_whole(images):
    regions = MultiView(VIEWS["one small crop"]).regions
    loader = load(build_source("folder", images, labels=False), 7, regions=regions)
    assert all(batch.region is None for batch in loader.in_order())
    shrunk = load(build_source("folder", images, labels=False, resize_shorter=40), 7, regions=regions)
    assert all(batch.region is None for batch in shrunk.epoch(0))


def test_files_that_are_turned_by_what_follows_their_frame(tmp_path):
    """EXIF stands at the beginning of nearly all files; both decoders look for it up to the first scan."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for k in range(4):
        buffer = io.BytesIO()
        Image.fromarray(smooth(40, 70, k)).save(buffer, "JPEG", exif=exif)
        content = buffer.getvalue()
        begin, frame = content.index(b"\xff\xe1"), content.index(b"\xff\xc0")
        end = begin + 2 + int.from_bytes(content[begin + 2 : begin + 4], "big")
        behind = frame + 2 + int.from_bytes(content[frame + 2 : frame + 4], "big")
        moved = content[:begin] + content[end:behind] + content[begin:end] + content[behind:]
        (tmp_path / f"{k}.jpg").write_bytes(moved)
    source = build_source("folder", tmp_path, labels=False)
    multi_view = MultiView(VIEWS["one small crop"])
    (part,) = load(source, 4, regions=multi_view.regions).epoch(0)
    assert part.whole_sizes.tolist() == [[70, 40]] * 4
    (full,) = load(source, 4).epoch(0)
    assert torch.equal(multi_view(part).tensors[0], multi_view(full).tensors[0])


def test_regions_in_tar_archives(tmp_path):
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for k, size in enumerate(SIZES):
            buffer = io.BytesIO()
            Image.fromarray(smooth(*size, k)).save(buffer, "JPEG")
            for name, content in ((f"{k:02}.jpg", buffer.getvalue()), (f"{k:02}.cls", str(k % 3).encode())):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    source = build_source("webdataset", tmp_path)
    multi_view = MultiView(VIEWS["simclr"])
    for part, full in zip(load(source, 5, regions=multi_view.regions).epoch(0), load(source, 5).epoch(0), strict=True):
        assert part.label.tolist() == full.label.tolist()
        assert torch.equal(multi_view(part).tensors[0], multi_view(full).tensors[0])


def test_a_batch_of_regions_is_selected_and_moved(images):
    multi_view = MultiView(VIEWS["one small crop"])
    (batch, *_) = load(build_source("folder", images, labels=False), 6, regions=multi_view.regions).epoch(0)
    some = torch.tensor([4, 1])
    expected = multi_view(batch).tensors[0]
    assert torch.equal(multi_view(batch.select(some)).tensors[0], expected[some])
    assert torch.equal(multi_view(batch.to("cpu")).tensors[0], expected)


@pytest.mark.parametrize("other", ["seed", "epoch", "views"])
def test_other_views_than_the_regions_were_made_for_are_refused(images, other):
    specs = VIEWS["one small crop"]
    regions = MultiView(specs, seed=1).regions
    (batch, *_) = load(build_source("folder", images, labels=False), 6, regions=regions).epoch(3)
    multi_view = MultiView(presets.plain(24) if other == "views" else specs, seed=2 if other == "seed" else 1)
    with pytest.raises(UserError, match=r"only regions .* seed and epoch"):
        multi_view(batch, 4 if other == "epoch" else 3)


@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_a_file_that_was_cut_is_found_wherever_the_region_lies(tmp_path, kept):
    for k in range(8):
        write(tmp_path / f"{k}.jpg", seed=k, size=(60, 80))
    content = (tmp_path / "3.jpg").read_bytes()
    (tmp_path / "3.jpg").write_bytes(content[: int(kept * len(content))])
    upper = [ViewSpec(8, crop_scale=(0.001, 0.01))]
    for seed in range(4):
        with pytest.raises(DataError, match=r"3\.jpg"):
            list(
                load(build_source("folder", tmp_path, labels=False), 4, regions=MultiView(upper, seed).regions).epoch(0)
            )
    source = build_source("folder", tmp_path, labels=False, on_error="skip")
    for seed in range(4):
        loader = load(source, 4, regions=MultiView(upper, seed).regions)
        with pytest.warns(UserWarning, match="skipped 1 of 8"):
            seen = torch.cat([batch.index for batch in loader.epoch(0)])
        assert len(seen) == 8 and 3 not in seen


@pytest.mark.parametrize("name", ["simclr", "jigsaw", "colorization"])
def test_methods_say_what_they_need(images, name):
    method = build(name, backbone="resnet10_narrow", image_size=64)
    (part, *_) = load(build_source("folder", images, labels=False), 6, regions=method.regions).epoch(1)
    (full, *_) = load(build_source("folder", images, labels=False), 6).epoch(1)
    assert part.region is not None
    ours, theirs = method.views(part, 1), method.views(full, 1)
    assert all(torch.equal(a, b) for a, b in zip(ours.tensors, theirs.tensors, strict=True))
    if name == "jigsaw":
        assert torch.equal(ours.patches, theirs.patches)


@pytest.mark.parametrize("name", ["simclr", "jigsaw"])
def test_a_method_with_views_of_its_own_gets_whole_images(name):
    base = type(build(name, backbone="resnet10_narrow", image_size=64))

    class Own(base):
        def views(self, batch, epoch=0):
            return super().views(batch, epoch)

    assert Own.regions.fget(build(name, backbone="resnet10_narrow", image_size=64)) is not None
    assert Own(build(name, backbone="resnet10_narrow", image_size=64).backbone, 64, 0).regions is None


def test_a_method_that_draws_otherwise_gets_whole_images():
    method = build("simclr", backbone="resnet10_narrow", image_size=64)
    method.multi_view = lambda batch, epoch: None
    assert method.regions is None


def test_regions_of_memory_are_not_needed(images):
    batch = next(iter(MemoryLoader(build_source("folder", images, labels=False).read(), 4).epoch(0)))
    assert batch.region is None and batch.whole_sizes is batch.sizes


def test_sizes_that_files_say():
    from sslfast import _host

    picture = Image.fromarray(smooth(20, 30))

    def header(end=None, append=b"", **options):
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", **options)
        return _host.jpeg_header(np.frombuffer(buffer.getvalue()[:end] + append, np.uint8))

    assert header() == header(append=b"\0" * 900) == (3, 20, 30)
    assert header(end=-2) == header(end=-2, append=b"\xff") == header(append=b"\0" * 2000) == (3, 0, 0)
    for value in range(12):
        exif = Image.Exif()
        exif[0x010E], exif[0x0112] = "a description", value
        expected = (30, 20) if 5 <= value <= 8 else (20, 30)
        for order in ("<", ">"):
            exif.endian = order
            assert header(exif=exif) == (3, *expected), (value, order)


def test_orientations_that_are_not_plain():
    from sslfast import _host

    frame = b"\xff\xc0\0\x0b\x08\0\x14\0\x1e\x01\x01\x11\0"
    scan = b"\xff\xda\0\x08\x01\x01\0\0\x3f\0\xff\xd9"

    def header(*segments):
        app = b"".join(b"\xff\xe1" + (len(s) + 2).to_bytes(2, "big") + s for s in segments)
        before, behind = (
            _host.jpeg_header(np.frombuffer(b"\xff\xd8" + parts + scan, np.uint8))
            for parts in (app + frame, frame + app)
        )
        assert before == behind  # wherever they stand before the scan
        return before

    def exif(entry, entries=1, order=b"MM", magic=42, place=8):
        tiff = order + magic.to_bytes(2, "big") + place.to_bytes(4, "big") + entries.to_bytes(2, "big") + entry
        return b"Exif\0\0" + tiff

    def turned(value, kind=3, number=1):
        return b"\x01\x12" + kind.to_bytes(2, "big") + number.to_bytes(4, "big") + value.to_bytes(2, "big") + b"\0\0"

    assert header() == header(b"http://ns.adobe.com/xap/1.0/\0") == header(exif(b"", 0)) == (1, 20, 30)
    assert header(exif(turned(6))) == header(b"Exif", exif(turned(6))) == header(exif(b"", 0), exif(turned(6)))
    assert header(exif(turned(6))) == (1, 30, 20)
    for unclear in (
        [exif(turned(6, kind=4))],
        [exif(turned(6, number=2))],
        [exif(turned(6), entries=2)],
        [exif(turned(6), order=b"MI")],
        [exif(turned(6), order=b"XX")],
        [exif(turned(6), magic=43)],
        [exif(turned(6), place=2**32 - 1)],
        [b"Exif\0\0MM"],
        [exif(turned(6)), exif(turned(3))],
    ):
        assert header(*unclear) == (0, 0, 0), unclear
