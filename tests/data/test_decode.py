"""Every file here is written by the test; the expected pixels are computed from the array it was written from."""

import io

import numpy as np
import pytest
from data.samples import png16
from PIL import Image, PngImagePlugin

from sslfast.data import decode
from sslfast.data.decode import check_memory, decode_files, decode_image, pack, shrunk
from sslfast.errors import DataError, UserError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
GRAY = RGB[..., 0]


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp", "gif"])
def test_lossless_formats(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    options = {"lossless": True, "exact": True} if suffix == "webp" else {}
    image = Image.fromarray(GRAY if suffix == "gif" else RGB)
    image.save(path, **options)
    expected = np.repeat(GRAY[..., None], 3, axis=2) if suffix == "gif" else RGB
    pixels = decode_image(path)
    assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, expected)


def test_jpeg_is_close(tmp_path):
    smooth = np.stack([*np.meshgrid(np.arange(40) * 6, np.arange(30) * 8), np.full((30, 40), 90)], axis=-1)
    path = tmp_path / "a.jpg"
    Image.fromarray(smooth.astype(np.uint8)).save(path, quality=95, subsampling=0)
    assert np.abs(decode_image(path).astype(int) - smooth).max() <= 6


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    # How a viewer has to turn the stored pixels, from the EXIF standard's table (tag 0x0112).
    upright = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, 1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    Image.fromarray(RGB).save(path, exif=exif)
    np.testing.assert_array_equal(decode_image(path), upright(RGB))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_orientations_that_exif_does_not_know(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(decode_image(tmp_path / "a.png"), RGB)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_an_orientation_outside_exif_turns_nothing(tmp_path, suffix):
    """XMP may hold one; DALI does not look for it there."""
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    path = tmp_path / f"a.{suffix}"
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp.decode())
    Image.fromarray(RGB).save(path, **({"pnginfo": info} if suffix == "png" else {"xmp": xmp}))
    with Image.open(path) as image:
        image.load()
        assert image.getexif()[0x0112] == 6  # of Pillow's own
    assert decode_image(path).shape == RGB.shape


def test_gray_and_luma(tmp_path):
    Image.fromarray(GRAY).save(tmp_path / "gray.png")
    Image.fromarray(RGB).save(tmp_path / "rgb.png")
    np.testing.assert_array_equal(decode_image(tmp_path / "gray.png"), np.repeat(GRAY[..., None], 3, axis=2))
    np.testing.assert_array_equal(decode_image(tmp_path / "gray.png", channels=1), GRAY[..., None])
    luma = decode_image(tmp_path / "rgb.png", channels=1)
    assert luma.shape == (6, 9, 1)
    assert np.abs(luma[..., 0] - RGB @ [0.299, 0.587, 0.114]).max() <= 1


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bit_gray_is_scaled(tmp_path, suffix):
    values = RNG.integers(0, 65536, (5, 7), dtype=np.uint16)
    values[0, :2] = 0, 65535
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    expected = np.round(values / 257).astype(np.uint8)
    np.testing.assert_array_equal(decode_image(tmp_path / f"a.{suffix}", channels=1)[..., 0], expected)
    np.testing.assert_array_equal(decode_image(tmp_path / f"a.{suffix}")[..., 2], expected)


def test_big_endian_sixteen_bit_tiff(tmp_path):
    values = RNG.integers(0, 65536, (5, 7), dtype=np.uint16)
    Image.frombytes("I;16B", (7, 5), values.astype(">u2").tobytes()).save(tmp_path / "a.tiff")
    expected = np.round(values / 257).astype(np.uint8)
    np.testing.assert_array_equal(decode_image(tmp_path / "a.tiff", channels=1)[..., 0], expected)


def test_sixteen_bit_rgb_png(tmp_path):
    values = RNG.integers(0, 65536, (4, 5, 3), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(png16(values))
    assert np.abs(decode_image(tmp_path / "a.png") - values / 257).max() <= 1


def test_palette_and_cmyk(tmp_path):
    palette = Image.fromarray(RGB).quantize(16)
    palette.save(tmp_path / "palette.png")
    table = np.array(palette.getpalette()).reshape(-1, 3)
    np.testing.assert_array_equal(decode_image(tmp_path / "palette.png"), table[np.asarray(palette)])

    cmyk = np.zeros((16, 16, 4), np.uint8)
    cmyk[:] = 255, 0, 0, 64  # cyan, darkened by a quarter
    Image.fromarray(cmyk, mode="CMYK").save(tmp_path / "cmyk.jpg", quality=100)
    pixels = decode_image(tmp_path / "cmyk.jpg").astype(int)
    assert np.abs(pixels - [0, 191, 191]).max() <= 3


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_transparency_is_laid_over_white(tmp_path, suffix):
    rgba = np.concatenate([RGB, RNG.integers(0, 256, (6, 9, 1), dtype=np.uint8)], axis=2)
    rgba[0, 0] = 10, 20, 30, 0
    rgba[0, 1] = 10, 20, 30, 255
    Image.fromarray(rgba).save(tmp_path / f"a.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    alpha = rgba[..., 3:] / 255
    expected = RGB * alpha + 255 * (1 - alpha)
    expected[0, :2] = [255, 255, 255], [10, 20, 30]
    assert np.abs(decode_image(tmp_path / f"a.{suffix}") - expected).max() <= 1


def test_transparent_palette_is_laid_over_white(tmp_path):
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 200, 100, 50])
    palette.putpixel((2, 1), 0)
    palette.save(tmp_path / "a.png", transparency=0)
    pixels = decode_image(tmp_path / "a.png")
    assert pixels[1, 2].tolist() == [255, 255, 255] and pixels[0, 0].tolist() == [200, 100, 50]


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert decode_image(tmp_path / "a.gif")[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize(("size", "shorter"), [((300, 200), 64), ((200, 300), 50), ((641, 97), 96), ((90, 40), 64)])
def test_resize_shorter(tmp_path, suffix, size, shorter):
    width, height = size
    ramp = np.linspace(0, 255, width)[None, :, None].repeat(height, 0).repeat(3, 2)
    Image.fromarray(ramp.astype(np.uint8)).save(tmp_path / f"a.{suffix}")
    pixels = decode_image(tmp_path / f"a.{suffix}", resize_shorter=shorter)
    new_width, new_height = shrunk(size, shorter)
    assert pixels.shape == (new_height, new_width, 3)
    assert min(new_width, new_height) == min(shorter, *size)
    assert abs(new_width / new_height - width / height) < 0.05 * width / height
    expected = (np.arange(new_width) + 0.5) / new_width * 255  # the ramp is still a ramp from black to white
    assert np.abs(pixels[new_height // 2, :, 0] - expected).max() < 6


def damaged_files(folder):
    buffer = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG")
    jpeg = buffer.getvalue()
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    png = buffer.getvalue()
    files = {
        "truncated.jpg": jpeg[: len(jpeg) // 2],
        "header_only.jpg": jpeg[:40],
        "truncated.png": png[: len(png) // 2],
        "flipped.png": png[:3000] + bytes(255 - b for b in png[3000:3100]) + png[3100:],
        "empty.jpg": b"",
        "text.jpg": b"<html>not found</html>",
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return sorted(files)


def test_damaged_files_are_named_with_the_cure(tmp_path):
    for name in damaged_files(tmp_path):
        with pytest.raises(DataError, match=rf"{name} cannot be decoded .*--on-error skip"):
            decode_image(tmp_path / name)


def test_an_early_end_marker_is_not_seen(tmp_path):
    """The one damage that the table names as decoded: rows before the marker are right, the size is the whole one."""
    pixels = np.broadcast_to(np.arange(128, dtype=np.uint8)[:, None, None], (128, 128, 3))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    content = buffer.getvalue()
    scan = content.index(b"\xff\xda") + 14  # where the header of the scan ends
    path = tmp_path / "early.jpg"
    path.write_bytes(content[: (scan + len(content)) // 2] + b"\xff\xd9")
    decoded, whole = decode_image(path).astype(int), pixels.astype(int)
    assert decoded.shape == (128, 128, 3)
    assert np.abs(decoded - whole)[:32].max() <= 4 and np.abs(decoded - whole)[96:].max() > 20


def test_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.png cannot be decoded"):
        decode_image(tmp_path / "gone.png")


def test_float_and_wide_integer_images_are_refused(tmp_path):
    Image.fromarray(np.zeros((3, 3), np.float32)).save(tmp_path / "float.tiff")
    Image.fromarray(np.full((3, 3), 70000, np.int32)).save(tmp_path / "wide.tiff")
    for name in ("float.tiff", "wide.tiff"):
        with pytest.raises(DataError, match=rf"{name} cannot be decoded .*no agreed range"):
            decode_image(tmp_path / name)


def test_other_channels_are_refused(tmp_path):
    with pytest.raises(UserError, match="channels is 4"):
        decode_image(tmp_path / "a.png", channels=4)


def test_files_come_in_order_with_and_without_skipping(tmp_path):
    paths = []
    for value in range(100):
        paths.append(str(tmp_path / f"{value:03}.png"))
        Image.new("RGB", (1 + value % 3, 2), (value, 0, 0)).save(paths[-1])
    images, skipped = decode_files(paths)
    assert [image[0, 0, 0] for image in images] == list(range(100)) and skipped == []
    for value in (7, 64):
        (tmp_path / f"{value:03}.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"007\.png"):
        decode_files(paths)
    images, skipped = decode_files(paths, on_error="skip")
    assert [value for value, image in enumerate(images) if image is None] == [7, 64]
    assert [path for path, _ in skipped] == [paths[7], paths[64]]
    assert "cannot identify" in skipped[0][1]


def test_pack_empties_its_list_and_keeps_the_pixels():
    images = [RNG.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in [(2, 3), (5, 1), (4, 4)]]
    expected = list(images)
    batch = pack(images, 3, None)
    assert images == [] and batch.index.tolist() == [0, 1, 2]
    for position, image in enumerate(expected):
        np.testing.assert_array_equal(batch.image(position).numpy(), image)


def test_memory_guard_names_the_numbers_and_a_cure_that_fits(tmp_path, monkeypatch):
    for number in range(8):
        Image.new("RGB", (1000, 500)).save(tmp_path / f"{number}.png")
    paths = [str(path) for path in sorted(tmp_path.iterdir())]  # 8 x 1.5 MB = 12 MB
    monkeypatch.setattr(decode, "available_memory", lambda: 14_000_000)
    check_memory(paths, 3, 0, "here")
    monkeypatch.setattr(decode, "available_memory", lambda: 10_000_000)
    with pytest.raises(DataError, match=r"8 images in here .*resize_shorter=256.* or limit=6 makes them fit"):
        check_memory(paths, 3, 0, "here")
    check_memory(paths, 3, 256, "here")
    check_memory(paths[:6], 3, 0, "here")


def test_available_memory_heeds_the_control_group(tmp_path, monkeypatch):
    meminfo, limit = tmp_path / "meminfo", tmp_path / "memory.max"
    meminfo.write_text("MemTotal: 9000 kB\nMemAvailable:    5000 kB\nBuffers: 1 kB\n")
    monkeypatch.setattr(decode, "MEMINFO", meminfo)
    monkeypatch.setattr(decode, "CGROUP_LIMITS", (limit,))
    assert decode.available_memory() == 5000 * 1024
    limit.write_text("max\n")
    assert decode.available_memory() == 5000 * 1024
    limit.write_text("1000000\n")
    assert decode.available_memory() == 1_000_000
    monkeypatch.setattr(decode, "MEMINFO", tmp_path / "absent")
    monkeypatch.setattr(decode, "CGROUP_LIMITS", ())
    assert decode.available_memory() is None
