import io
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from data.samples import reds
from PIL import Image

from sslfast.data import build_source
from sslfast.data.sources.files import by_turns
from sslfast.errors import DataError, UserError


def png(value, size=(4, 3)):
    buffer = io.BytesIO()
    Image.new("RGB", size, (value, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def write_tar(path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def samples(values, labels=None, folder="a"):
    files = {}
    for position, value in enumerate(values):
        files[f"{folder}/{value:03}.png"] = png(value, size=(4 + position, 3))
        if labels is not None:
            files[f"{folder}/{value:03}.cls"] = str(labels[position]).encode()
    return files


def write_index(path, version="v1.2"):
    """What wds2idx writes: a line for a sample, with extension, offset, size and name of each of its files."""
    lines = {}
    with tarfile.open(path) as archive:
        for member in archive:
            key, _, suffix = member.name.partition(".")
            if member.isreg() and not key.endswith("/"):  # hidden files are no samples
                words = [suffix, str(member.offset_data), str(member.size), member.name]
                lines.setdefault(key, []).extend(words[: 4 if version == "v1.2" else 3])
    path.with_suffix(".idx").write_text("\n".join([f"{version} {len(lines)}", *map(" ".join, lines.values())]) + "\n")


def test_shards_come_in_order_of_their_names_and_classes_by_turns(tmp_path):
    write_tar(tmp_path / "s-001.tar", samples([40, 50, 60], [1, 0, 0]))
    write_tar(tmp_path / "s-000.tar", samples([10, 20, 30], [0, 0, 1]))
    source = build_source("webdataset", tmp_path)
    images = source.read()
    assert reds(images) == [10, 30, 20, 40, 50, 60] and images.label.tolist() == [0, 1, 0, 1, 0, 0]
    assert images.index.tolist() == list(range(6)) and source.classes == ["0", "1"]
    assert images.sizes[:2].tolist() == [[3, 4], [3, 6]]
    assert str(source.files[1]) == f"{tmp_path}/s-000.tar/a/030.png"
    limited = build_source("webdataset", tmp_path, limit=2, classes=["cat", "dog"])
    assert len(limited) == 2 and reds(limited.read()) == [10, 30] and limited.classes == ["cat", "dog"]


@pytest.mark.parametrize("version", ["v1.1", "v1.2"])
def test_an_index_gives_the_same_samples_without_reading_headers(tmp_path, version):
    archive = tmp_path / "s.tar"
    write_tar(archive, samples(range(5), [0, 1, 2, 1, 0]) | {"a/010.json": b"{}", "a/.hidden.png": b"x"})
    plain = build_source("webdataset", archive)
    write_index(archive, version)
    content = bytearray(archive.read_bytes())
    with tarfile.open(archive) as opened:  # damage every header: what lies between the files' contents
        for member in opened:
            content[member.offset : member.offset_data] = b"?" * (member.offset_data - member.offset)
    expected = plain.read()
    archive.write_bytes(content)
    indexed = build_source("webdataset", archive)
    assert indexed.label.tolist() == plain.label.tolist() == [0, 1, 2, 0, 1]
    assert reds(indexed.read()) == reds(expected) == [0, 1, 2, 4, 3]
    assert [(f.offset, f.size) for f in indexed.files] == [(f.offset, f.size) for f in plain.files]


def test_the_index_of_dali_itself(tmp_path):
    pytest.importorskip("nvidia.dali")
    archive = tmp_path / "s.tar"
    write_tar(archive, samples(range(4), [0, 1, 1, 0]))
    plain = build_source("webdataset", archive)
    command = "from wds2idx import main; main()"
    done = subprocess.run([sys.executable, "-c", command, str(archive)], capture_output=True, text=True)
    if "No module named 'wds2idx'" in done.stderr:
        pytest.skip("this DALI comes without wds2idx")
    assert done.returncode == 0 and archive.with_suffix(".idx").is_file(), done.stderr
    assert list(build_source("webdataset", archive).files) == list(plain.files)


def test_samples_without_labels(tmp_path):
    write_tar(tmp_path / "s.tar", samples([1, 2]))
    source = build_source("webdataset", tmp_path)
    assert source.classes is None and source.read().label is None
    write_tar(tmp_path / "s.tar", samples([1, 2]) | samples([3, 4], [0, 1], folder="b"))
    images = build_source("webdataset", tmp_path).read()
    assert sorted(zip(images.label.tolist(), reds(images), strict=True)) == [(-1, 1), (-1, 2), (0, 3), (1, 4)]


def test_the_image_is_the_first_file_of_a_sample_that_is_one(tmp_path):
    write_tar(tmp_path / "s.tar", {"x.json": b"{}", "x.PNG": png(7), "x.jpg": b"not read", "y.txt": b"no image"})
    assert reds(build_source("webdataset", tmp_path).read()) == [7]


def test_splits_by_folder_and_by_name(tmp_path):
    for split, value in (("train", 1), ("val", 2)):
        write_tar(tmp_path / "folders" / split / "000.tar", samples([value]))
        write_tar(tmp_path / "names" / f"imagenet-{split}-000.tar", samples([value]))
    for layout in ("folders", "names"):
        for split, value in (("train", 1), ("val", 2), ("test", 2)):
            assert reds(build_source("webdataset", tmp_path / layout, split).read()) == [value]
    write_tar(tmp_path / "plain" / "000.tar", samples([3]))
    write_tar(tmp_path / "train_only" / "train-0.tar", samples([3]))
    for layout in ("plain", "plain/000.tar", "train_only"):
        assert reds(build_source("webdataset", tmp_path / layout).read()) == [3]
        with pytest.raises(DataError, match="there is no split 'test'"):
            build_source("webdataset", tmp_path / layout, "test")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"x.png": png(1), "x.cls": b"cat"}, r"x\.cls does not hold the number of a class: b'cat'"),
        ({"x.png": png(1), "x.cls": b"-1"}, r"x\.cls does not hold"),
        ({"x.png": png(1), "x.cls": b"16777216"}, r"x\.cls does not hold .*b'16777216'; .* from 0 to 16777215"),
        ({"x.png": png(1), "x.cls": b"9" * 23}, r"x\.cls does not hold"),  # beyond 64 bits
        ({"x.txt": b""}, "no images in the archives"),
        ({}, "no images in the archives"),
    ],
)
def test_bad_samples(tmp_path, files, message):
    write_tar(tmp_path / "s.tar", files)
    with pytest.raises(DataError, match=message):
        build_source("webdataset", tmp_path)


def test_bad_archives(tmp_path):
    with pytest.raises(UserError, match="needs root"):
        build_source("webdataset")
    with pytest.raises(DataError, match=r"gone does not exist"):
        build_source("webdataset", tmp_path / "gone")
    with pytest.raises(DataError, match=r"no \*\.tar in "):
        build_source("webdataset", tmp_path)
    archive = tmp_path / "s.tar"
    archive.write_bytes(b"this is no archive" * 100)
    with pytest.raises(DataError, match=r"s\.tar cannot be read as a tar archive"):
        build_source("webdataset", tmp_path)
    write_tar(archive, samples([1, 2, 3]))
    archive.write_bytes(archive.read_bytes()[:1700])  # within the second image
    with pytest.raises(DataError, match=r"s\.tar cannot be read as a tar archive"):
        build_source("webdataset", tmp_path)
    write_tar(archive, samples([1, 2], [0, 5]))
    with pytest.raises(DataError, match="label 5, and classes names only 2"):
        build_source("webdataset", tmp_path, classes=["a", "b"])


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("v1.2", "v9"),
        lambda text: text.replace("png", "png more words"),
        lambda text: text.splitlines()[0],
        lambda text: "",
        lambda text: text.replace("cls ", "cls 99999999"),
    ],
)
def test_a_bad_index_is_named_with_the_cure(tmp_path, damage):
    archive = tmp_path / "s.tar"
    write_tar(archive, samples([1, 2], [0, 1]))
    write_index(archive)
    index = archive.with_suffix(".idx")
    index.write_text(damage(index.read_text()))
    with pytest.raises(DataError, match=r"s\.idx is not an index of s\.tar .* delete it"):
        build_source("webdataset", archive)


def test_a_corrupt_member_is_named_or_skipped(tmp_path):
    write_tar(tmp_path / "s.tar", samples([1]) | {"b/bad.png": png(2)[:40]} | samples([3], folder="c"))
    with pytest.raises(DataError, match=r"s\.tar/b/bad\.png cannot be decoded"):
        build_source("webdataset", tmp_path).read()
    source = build_source("webdataset", tmp_path, on_error="skip")
    with pytest.warns(UserWarning, match=r"skipped 1 of 3 .*b/bad\.png"):
        images = source.read()
    assert reds(images) == [1, 3] and [file for file, _ in source.skipped] == [f"{tmp_path}/s.tar/b/bad.png"]


def test_by_turns_takes_the_first_of_each_class_then_the_second():
    label = np.array([2, 2, 0, 1, 0, 2, -1])
    assert by_turns(label).tolist() == [6, 2, 3, 0, 4, 1, 5]


def test_labels_anywhere_in_the_archive(tmp_path):
    """`tar cf shard.tar *.png *.cls` puts them behind all images; those labels were lost without a word."""
    files = samples([1, 2, 3], [2, 0, 1])
    write_tar(
        tmp_path / "s.tar", dict(sorted(files.items(), key=lambda file: file[0].rpartition(".")[2], reverse=True))
    )
    source = build_source("webdataset", tmp_path)
    assert source.label.tolist() == [0, 1, 2] and reds(source.read()) == [2, 3, 1]
    write_index(tmp_path / "s.tar")
    assert build_source("webdataset", tmp_path).label.tolist() == [0, 1, 2]


def test_a_name_that_comes_again_is_another_sample(tmp_path):
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        for name, content in [("1.png", png(1)), ("1.cls", b"0"), ("1.png", png(9)), ("1.cls", b"1")]:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    source = build_source("webdataset", tmp_path)
    assert reds(source.read()) == [1, 9] and source.label.tolist() == [0, 1]


def test_several_archives_by_braces(tmp_path):
    for number in (8, 9, 10):
        write_tar(tmp_path / f"s-{number:03}.tar", samples([number]))
    assert reds(build_source("webdataset", f"{tmp_path}/s-{{008..010}}.tar").read()) == [8, 9, 10]
    assert reds(build_source("webdataset", f"{tmp_path}/s-{{008,010}}.tar").read()) == [8, 10]
    with pytest.raises(DataError, match=r"s-011\.tar does not exist"):
        build_source("webdataset", f"{tmp_path}/s-{{008..011}}.tar")
    write_tar(tmp_path / "train-0.tar", samples([1]))
    write_tar(tmp_path / "val-0.tar", samples([2]))
    assert reds(build_source("webdataset", f"{tmp_path}/{{train,val}}-0.tar", "test").read()) == [2]


def test_compressed_archives_are_not_left_out(tmp_path):
    write_tar(tmp_path / "s-0.TAR", samples([1]))
    assert reds(build_source("webdataset", tmp_path).read()) == [1]
    (tmp_path / "s-1.tar.gz").write_bytes(b"packed")
    with pytest.raises(DataError, match=r"s-1\.tar\.gz is compressed.*unpack it to s-1\.tar"):
        build_source("webdataset", tmp_path)
    write_tar(tmp_path / "s-1.tar", samples([2]))
    assert reds(build_source("webdataset", tmp_path).read()) == [1, 2]


def test_archives_in_sub_folders_are_pointed_to(tmp_path):
    write_tar(tmp_path / "part" / "s.tar", samples([1]))
    with pytest.raises(DataError, match=r"no \*\.tar in .*, which has part/"):
        build_source("webdataset", tmp_path)
