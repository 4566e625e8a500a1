"""What becomes of every kind of file, whole or damaged: the reference is `MemoryLoader`, which decodes with Pillow."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from data.samples import load, png16, smooth, write
from PIL import Image

from sslfast.augment import MultiView, presets
from sslfast.data import DaliLoader, build_source
from sslfast.data.dali import decodable
from sslfast.data.decode import decode_image
from sslfast.errors import DataError


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


def test_photos(photos):
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


@pytest.mark.parametrize("by_region", [False, True])
def test_a_file_that_only_pillow_decodes(tmp_path, monkeypatch, by_region):
    for number in range(6):
        write(tmp_path / f"{number}.jpg", number)
    source = build_source("folder", tmp_path)
    regions = MultiView(presets.simclr(16)).regions
    loader = load(source, 2, shuffle=False, regions=regions if by_region else None)
    content = DaliLoader._content

    def garbled(self, position, *file):  # as if DALI could not decode the third file
        found = content(self, position, *file)
        is_jpeg = bytes(found.content[:2]) == b"\xff\xd8"
        return found._replace(content=found.content[:100]) if position == 2 and is_jpeg else found

    monkeypatch.setattr(DaliLoader, "_content", garbled)
    batches = list(loader.epoch(0))
    assert [batch.index.tolist() for batch in batches] == [[0, 1], [2, 3], [4, 5]] and loader.skipped == {}
    whole = source.read().image(2)
    if by_region:
        ((top, left, height, width),) = regions(batches[1].index[:1], torch.tensor([whole.shape[:2]]).int(), 0).tolist()
        whole = whole[top : top + height, left : left + width]
    assert torch.equal(batches[1].image(0), whole)


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
