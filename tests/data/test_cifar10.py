import pickle
import pickletools
import socket
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sslfast.data import build_source
from sslfast.data.sources.cifar10 import CIFAR10, CLASSES
from sslfast.errors import DataError, UserError


class Python2Pickler(pickle._Pickler):
    """Writes what the official files hold: protocol 2 with Python 2's strings, and numpy's old module names."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, value):
        data = value if isinstance(value, bytes) else value.encode("latin1")
        self.write(pickle.BINSTRING + len(data).to_bytes(4, "little") + data)
        self.memoize(value)

    def save_global(self, value, name=None):
        if getattr(value, "__name__", "") == "_reconstruct":
            self.write(pickle.GLOBAL + b"numpy.core.multiarray\n_reconstruct\n")
            self.memoize(value)
        else:
            super().save_global(value, name)

    dispatch[str] = dispatch[bytes] = save_string


def write_pickle(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        Python2Pickler(file, protocol=2).dump(content)


def write_batches(folder, count=20):
    """All seven official files with `count` images each; returns the images and labels by split."""
    generator = np.random.default_rng(0)
    splits = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}
    written = {}
    for split, names in splits.items():
        images = generator.integers(0, 256, (count * len(names), 32, 32, 3), dtype=np.uint8)
        labels = generator.integers(0, 10, len(images))
        for number, name in enumerate(names):
            part = slice(number * count, (number + 1) * count)
            planes = [images[part][..., channel].reshape(count, 1024) for channel in range(3)]
            content = {
                "batch_label": f"{split} batch {number + 1} of {len(names)}",
                "labels": labels[part].tolist(),
                "data": np.concatenate(planes, axis=1),
                "filenames": [f"image_{position}.png" for position in range(count)],
            }
            write_pickle(folder / name, content)
        written[split] = images, labels
    meta = {"num_cases_per_batch": count, "label_names": list(CLASSES), "num_vis": 3072}
    write_pickle(folder / "batches.meta", meta)
    return written


def by_turns(images, labels):
    """The first image of every class, the second of every class, …"""
    turns = [int((labels[:position] == label).sum()) for position, label in enumerate(labels)]
    order = sorted(range(len(labels)), key=lambda position: (turns[position], labels[position]))
    return images[order], labels[order]


def check(source, images, labels, limit=None):
    images, labels = (values[:limit] for values in by_turns(images, labels))
    batch = source.read()
    assert len(source) == len(batch) == len(images)
    assert batch.label.tolist() == labels.tolist() and batch.index.tolist() == list(range(len(images)))
    for position in range(len(images)):
        np.testing.assert_array_equal(batch.image(position).numpy(), images[position])


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("inside", [False, True])
def test_official_batches(tmp_path, split, inside):
    written = write_batches(tmp_path / "cifar-10-batches-py")
    content = (tmp_path / "cifar-10-batches-py" / "test_batch").read_bytes()
    assert "BINUNICODE" not in {opcode.name for opcode, _, _ in pickletools.genops(content)}
    assert b"numpy.core.multiarray" in content
    source = build_source("cifar10", tmp_path / "cifar-10-batches-py" if inside else tmp_path, split)
    check(source, *written[split])
    assert source.classes == ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def test_batches_saved_again_by_python_3(tmp_path):
    written = write_batches(tmp_path / "cifar-10-batches-py")
    for protocol in (2, 4):
        path = tmp_path / "cifar-10-batches-py" / "test_batch"
        images, labels = written["test"]
        data = images.transpose(0, 3, 1, 2).reshape(len(images), 3072)
        path.write_bytes(pickle.dumps({"data": np.ascontiguousarray(data), "labels": labels.tolist()}, protocol))
        check(CIFAR10(tmp_path, "test"), images, labels)


@pytest.mark.parametrize("as_root", [False, True])
def test_official_archive_is_read_without_unpacking(tmp_path, as_root):
    written = write_batches(tmp_path / "made" / "cifar-10-batches-py")
    archive = tmp_path / "root" / "cifar-10-python.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "made" / "cifar-10-batches-py", "cifar-10-batches-py")
    check(CIFAR10(archive if as_root else archive.parent), *written["train"])
    assert list(archive.parent.iterdir()) == [archive]


def test_limit(tmp_path):
    written = write_batches(tmp_path / "cifar-10-batches-py")
    source = build_source("cifar10", tmp_path, limit=10)
    assert len(source) == 10 and sorted(source.read().label.tolist()) == list(range(10))
    check(build_source("cifar10", tmp_path, limit=33), *written["train"], limit=33)


def test_class_folders(tmp_path):
    for split, count in (("train", 3), ("test", 1)):
        for label, name in enumerate(CLASSES):
            for number in range(count):
                path = tmp_path / split / name / f"{number:04}.{'png' if number else 'jpg'}"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (32, 32), (label * 20, number * 50, 0)).save(path)
    train, test = build_source("cifar10", tmp_path), build_source("cifar10", tmp_path, "test", limit=4)
    images = train.read()
    assert len(train) == 30 and images.label.tolist() == [*range(10)] * 3
    assert abs(int(images.image(14)[0, 0, 0]) - 80) <= 2 and abs(int(images.image(14)[0, 0, 1]) - 50) <= 2
    assert test.read().label.tolist() == [0, 1, 2, 3]
    assert train.classes == test.classes == list(CLASSES)


def test_class_folders_skip_bad_files(tmp_path):
    for name in CLASSES:
        (tmp_path / "train" / name).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(tmp_path / "train" / name / "0.png")
    (tmp_path / "train" / "frog" / "1.jpg").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"frog/1\.jpg cannot be decoded"):
        build_source("cifar10", tmp_path).read()
    source = build_source("cifar10", tmp_path, on_error="skip")
    with pytest.warns(UserWarning, match="skipped 1 of 11"):
        assert len(source.read()) == 10
    assert len(source.skipped) == 1 and len(source) == 10


def test_a_folder_that_is_no_class_is_named(tmp_path):
    for name in ("cat", "unicorn"):
        (tmp_path / "train" / name).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(tmp_path / "train" / name / "0.png")
    with pytest.raises(DataError, match="unicorn is none of the classes"):
        CIFAR10(tmp_path)


class Evil:
    def __reduce__(self):
        return print, ("code from a data file ran",)


def test_a_pickle_that_runs_code_is_refused(tmp_path, capsys):
    write_batches(tmp_path / "cifar-10-batches-py")
    path = tmp_path / "cifar-10-batches-py" / "test_batch"
    path.write_bytes(pickle.dumps({"data": Evil(), "labels": []}))
    with pytest.raises(DataError, match=r"test_batch is not a CIFAR-10 batch .*asks for builtins\.print"):
        CIFAR10(tmp_path, "test")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        pickle.dumps([1, 2]),
        pickle.dumps({"data": np.zeros((2, 3072)), "labels": [0, 1]}),
        pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}),
        pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 10]}),
        "truncated",
    ],
)
def test_a_damaged_batch_is_named_with_the_cure(tmp_path, content):
    write_batches(tmp_path / "cifar-10-batches-py")
    path = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    path.write_bytes(path.read_bytes()[:-5000] if content == "truncated" else content)
    with pytest.raises(DataError, match=r"data_batch_3 is not a CIFAR-10 batch .*delete it and get https"):
        CIFAR10(tmp_path)


def test_a_missing_batch_and_a_truncated_archive_are_named(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    write_batches(folder)
    archive = tmp_path / "other" / "cifar-10-python.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, "cifar-10-batches-py")
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz is incomplete or damaged"):
        CIFAR10(archive.parent)
    (folder / "data_batch_4").unlink()
    with pytest.raises(DataError, match=r"incomplete or damaged .*data_batch_4"):
        CIFAR10(tmp_path)


def test_nothing_there_says_where_to_get_it(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"looked for cifar-10-batches-py/.*get https://.*or allow the download"):
        CIFAR10(tmp_path, download=False)

    def no_network(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    with pytest.raises(DataError, match=r"cannot be downloaded .*no network.*get https://.*packed or unpacked"):
        CIFAR10(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_download_is_read(tmp_path, monkeypatch):
    written = {}

    def download(root, download):
        written.update(write_batches(Path(root) / "cifar-10-batches-py"))

    monkeypatch.setattr("torchvision.datasets.CIFAR10", download)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = build_source("cifar10")
    assert source.root == tmp_path / "cache" / "sslfast" / "cifar10"
    check(source, *written["train"])


def test_without_a_home_root_is_asked_for(monkeypatch):
    def unknown(number):
        raise KeyError(number)

    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(UserError, match="needs root: there is no home folder"):
        build_source("cifar10")


def test_an_interrupted_download_leaves_nothing(tmp_path, monkeypatch):
    """Half an archive was taken for a damaged data set from then on."""

    def interrupted(root, download):
        Path(root, "cifar-10-python.tar.gz").write_bytes(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr("torchvision.datasets.CIFAR10", interrupted)
    with pytest.raises(KeyboardInterrupt):
        CIFAR10(tmp_path / "set")
    assert list((tmp_path / "set").iterdir()) == []


def test_bad_options_are_named(tmp_path):
    with pytest.raises(UserError, match="split is 'val'"):
        CIFAR10(tmp_path, "val")
    with pytest.raises(UserError, match="no option 'downlod'; did you mean 'download'"):
        build_source("cifar10", tmp_path, downlod=True)
