"""Files that are read by the batch: the reference is `Path.read_bytes`."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from sslfast import _host
from sslfast.data.decode import Member, read_files

RNG = np.random.default_rng(0)
NOTHING = np.empty(0, np.uint8)


def random_bytes(count):
    return RNG.integers(0, 256, count, dtype=np.uint8).tobytes()


def test_whole_files_and_members_of_archives(tmp_path):
    contents = [random_bytes(count) for count in (1, 0, 100_000, 4096)]
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.jpg").write_bytes(content)
    (tmp_path / "a.tar").write_bytes(b"x" * 700 + contents[2] + b"y" * 9)
    files = [str(tmp_path / f"{number}.jpg") for number in range(4)]
    files.insert(2, Member(str(tmp_path / "a.tar"), "inside", 700, 100_000))
    memory, found = read_files(files, NOTHING)
    assert [content.tobytes() for content in found] == [*contents[:2], contents[2], *contents[2:]]
    assert all(np.shares_memory(content, memory) for content in found if len(content))


def test_memory_is_used_again_where_it_is_large_enough(tmp_path):
    (tmp_path / "a").write_bytes(random_bytes(1000))
    (tmp_path / "b").write_bytes(random_bytes(1001))
    mine = np.zeros(1000, np.uint8)
    memory, (content,) = read_files([str(tmp_path / "a")], mine)
    assert memory is mine and mine.tobytes() == content.tobytes() == (tmp_path / "a").read_bytes()
    memory, (content,) = read_files([str(tmp_path / "b")], mine)
    assert not np.shares_memory(memory, mine) and content.tobytes() == (tmp_path / "b").read_bytes()
    assert mine.tobytes() == (tmp_path / "a").read_bytes()


def test_what_is_not_there_is_none_and_the_others_are_read(tmp_path):
    (tmp_path / "a").write_bytes(b"123")
    (tmp_path / "b").write_bytes(b"4567")
    gone, short = str(tmp_path / "gone"), Member(str(tmp_path / "b"), "", 2, 3)
    no_archive, endless = Member(gone, "", 0, 10), Member(short.archive, "", 0, 2**62)
    outside = Member(short.archive, "", 9, 1)
    files = [str(tmp_path / "a"), gone, short, no_archive, endless, outside, str(tmp_path / "b")]
    _, found = read_files(files, NOTHING)
    assert found[1:-1] == [None] * 5 and [found[0].tobytes(), found[-1].tobytes()] == [b"123", b"4567"]
    assert read_files([], NOTHING)[1] == []


def test_a_name_that_is_no_text(tmp_path):
    name = os.path.join(os.fsencode(tmp_path), b"\xff\xfe.jpg")
    try:
        with open(name, "wb") as file:
            file.write(b"abc")
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    _, (content,) = read_files([os.fsdecode(name)], NOTHING)
    assert content.tobytes() == b"abc"


@pytest.mark.parametrize("mode, components", [("L", 1), ("RGB", 3), ("CMYK", 4)])
@pytest.mark.parametrize("progressive", [False, True])
def test_components_of_jpeg_files(mode, components, progressive):
    buffer = io.BytesIO()
    image = Image.fromarray(RNG.integers(0, 256, (20, 30, 4), dtype=np.uint8), "RGBA").convert("RGB").convert(mode)
    exif = Image.Exif()
    exif[0x010E] = "of some length " * 50
    image.save(buffer, "JPEG", progressive=progressive, exif=exif, comment=b"and a comment")
    content = np.frombuffer(buffer.getvalue(), np.uint8)
    frame = buffer.getvalue().index(b"\xff\xc2" if progressive else b"\xff\xc0")
    for end in range(len(content)):  # a copy, so that a tool which watches memory would see a read beyond it
        expected = components if end >= frame + 10 else 0
        assert _host.jpeg_header(content[:end].copy())[0] == expected, end


def test_components_beyond_fill_bytes_and_markers_without_length():
    frame = b"\xff\xc1\0\x0b\x08\0\x01\0\x01\x01\x01\x11\0"
    for before in (b"", b"\xff\xff", b"\xff\x01", b"\xff\xd0\xff\xd7", b"\xff\xc4\0\x04ab", b"\xff\xcc\0\x02"):
        content = np.frombuffer(b"\xff\xd8" + before + frame, np.uint8)
        assert _host.jpeg_header(content)[0] == 1, before
    for damaged in (b"", b"\xff\xd8", b"GIF89a", b"\xff\xd8" + b"\xff" * 50, b"\xff\xd8\xff\xe0\xff\xff" + frame):
        assert _host.jpeg_header(np.frombuffer(damaged, np.uint8))[0] == 0, damaged
