import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from data.samples import reds
from PIL import Image

from sslfast.data import MemoryLoader, build_source, decode
from sslfast.data.sources.folder import Folder
from sslfast.errors import DataError, UserError


def write(path, value=0, size=(4, 3)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 0, 0)).save(path)


def names(source):
    return [str(Path(file).relative_to(source.root)) for file in source.files]


def test_class_folders_come_by_turns(tmp_path):
    for value, name in enumerate(["cat/b.png", "cat/a.PNG", "ant/x.png", "bee/deep/er/y.bmp", "cat/c.png"]):
        write(tmp_path / name, value)
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "cat" / "._a.png").write_text("not an image either")
    write(tmp_path / ".thumbnails" / "t.png")
    source = build_source("folder", tmp_path)
    images = source.read()
    assert source.classes == ["ant", "bee", "cat"]
    assert names(source) == ["ant/x.png", "bee/deep/er/y.bmp", "cat/a.PNG", "cat/b.png", "cat/c.png"]
    assert reds(images) == [2, 3, 1, 0, 4]
    assert images.label.tolist() == [0, 1, 2, 2, 2] and images.index.tolist() == [0, 1, 2, 3, 4]
    assert images.sizes.tolist() == [[3, 4]] * 5


def test_limit_takes_all_classes(tmp_path):
    for name in "abc":
        for number in range(5):
            write(tmp_path / name / f"{number}.png", number)
    source = build_source("folder", tmp_path, limit=4)
    images = source.read()
    assert len(source) == len(images) == 4
    assert images.label.tolist() == [0, 1, 2, 0] and reds(images) == [0, 0, 0, 1]


@pytest.mark.parametrize("files", [["b.png", "a.png"], ["only/b.png", "only/a.png"]])
def test_images_without_class_folders_have_no_labels(tmp_path, files):
    for value, name in enumerate(files):
        write(tmp_path / name, value)
    source = Folder(tmp_path)
    images = source.read()
    assert source.classes is None and images.label is None and reds(images) == [1, 0]


def test_nested_without_labels(tmp_path):
    for value, name in enumerate(["top.png", "2019/a.png", "2020/may/b.png"]):
        write(tmp_path / name, value)
    with pytest.raises(DataError, match=r"beside the sub-folders 2019, 2020.*labels=False"):
        Folder(tmp_path)
    source = Folder(tmp_path, labels=False)
    assert names(source) == ["2019/a.png", "2020/may/b.png", "top.png"] and source.read().label is None


@pytest.mark.parametrize("test_name", ["test", "val"])
def test_split_folders(tmp_path, test_name):
    for value, name in enumerate(["train/cat/a.png", "train/bee/a.png", "train/ant/a.png", f"{test_name}/cat/b.png"]):
        write(tmp_path / name, value)
    write(tmp_path / test_name / "bee" / "b.png", 9)
    train, test = build_source("folder", tmp_path), build_source("folder", tmp_path, "test")
    assert train.classes == test.classes == ["ant", "bee", "cat"]
    assert reds(train.read()) == [2, 1, 0] and train.read().label.tolist() == [0, 1, 2]
    assert reds(test.read()) == [9, 3] and test.read().label.tolist() == [1, 2]


def test_flat_split_folders(tmp_path):
    for value, name in enumerate(["train/a.png", "train/b.png", "val/c.png"]):
        write(tmp_path / name, value)
    assert reds(Folder(tmp_path).read()) == [0, 1]
    assert reds(Folder(tmp_path, "val").read()) == reds(Folder(tmp_path, "test").read()) == [2]


def test_labels_agree_between_splits_of_which_one_lacks_classes(tmp_path):
    for name in ("train/ant/a.png", "train/bee/a.png", "test/bee/b.png"):
        write(tmp_path / name)
    train, test = Folder(tmp_path), Folder(tmp_path, "test")
    assert train.classes == test.classes == ["ant", "bee"]
    assert train.read().label.tolist() == [0, 1] and test.read().label.tolist() == [1]


def test_a_class_may_be_called_train(tmp_path):
    for value, name in enumerate(["bus/a.png", "train/a.png", "car/a.png"]):
        write(tmp_path / name, value)
    assert Folder(tmp_path).classes == ["bus", "car", "train"]


def test_missing_split_is_named(tmp_path):
    write(tmp_path / "plain" / "a.png")
    with pytest.raises(DataError, match="not divided into splits"):
        Folder(tmp_path / "plain", "test")
    write(tmp_path / "divided" / "train" / "a.png")
    with pytest.raises(DataError, match=r"has train but no test/ or val/"):
        Folder(tmp_path / "divided", "test")


def test_given_classes_set_the_labels(tmp_path):
    for name in ("ant/a.png", "bee/a.png"):
        write(tmp_path / name)
    source = Folder(tmp_path, classes=["bee", "wasp", "ant"])
    assert names(source) == ["bee/a.png", "ant/a.png"] and source.read().label.tolist() == [0, 2]
    with pytest.raises(DataError, match="no sub-folders for the classes ant"):
        Folder(tmp_path / "ant", classes=["ant"])
    with pytest.raises(DataError, match=r"bee is none of the classes ant, wasp"):
        Folder(tmp_path, classes=["ant", "wasp"])


def test_linked_folders_are_followed_once(tmp_path):
    write(tmp_path / "store" / "a.png", 1)
    write(tmp_path / "set" / "y" / "b.png", 2)
    (tmp_path / "set" / "x").symlink_to(tmp_path / "store")
    (tmp_path / "set" / "y" / "loop").symlink_to(tmp_path / "set")
    source = Folder(tmp_path / "set")
    assert source.classes == ["x", "y"] and reds(source.read()) == [1, 2]


def test_channels_and_resize(tmp_path):
    write(tmp_path / "a.png", 200, size=(80, 40))
    write(tmp_path / "b.png", 100, size=(10, 12))
    images = Folder(tmp_path, channels=1, resize_shorter=20).read()
    assert images.channels == 1 and images.sizes.tolist() == [[20, 40], [12, 10]]
    assert images.image(0)[0, 0, 0] == round(200 * 0.299)
    assert [len(batch) for batch in MemoryLoader(images, 2).epoch(0)] == [2]


def test_corrupt_image_is_named_or_skipped(tmp_path):
    for number in range(6):
        write(tmp_path / "ab"[number % 2] / f"{number}.png", number)
    (tmp_path / "a" / "2.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"a/2\.png cannot be decoded .*--on-error skip"):
        build_source("folder", tmp_path).read()
    source = build_source("folder", tmp_path, on_error="skip")
    with pytest.warns(UserWarning, match=r"skipped 1 of 6 images in .*a/2\.png") as record:
        images = source.read()
    assert len(record) == 1
    assert [Path(file).name for file, _ in source.skipped] == ["2.png"] and "cannot identify" in source.skipped[0][1]
    assert len(source) == len(images) == len(source.files) == 5
    assert reds(images) == [0, 1, 3, 4, 5] and images.label.tolist() == [0, 1, 1, 0, 1]
    assert images.index.tolist() == [0, 1, 2, 3, 4]
    assert [int(Path(file).stem) for file in source.files] == reds(images)


def test_all_images_corrupt_is_an_error_even_when_skipping(tmp_path):
    (tmp_path / "a.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"none of the images .*a\.png"):
        Folder(tmp_path, on_error="skip").read()


def test_too_large_for_the_memory(tmp_path, monkeypatch):
    write(tmp_path / "a.png", size=(100, 100))
    monkeypatch.setattr(decode, "available_memory", lambda: 10_000)
    with pytest.raises(DataError, match="resize_shorter=32"):
        Folder(tmp_path).read()
    assert len(Folder(tmp_path, resize_shorter=32).read()) == 1


def test_bad_roots_are_named(tmp_path):
    with pytest.raises(UserError, match="needs root"):
        build_source("folder")
    with pytest.raises(DataError, match=r"nowhere does not exist"):
        Folder(tmp_path / "nowhere")
    (tmp_path / "file.txt").write_text("text")
    with pytest.raises(DataError, match=r"file\.txt is a file"):
        Folder(tmp_path / "file.txt")
    with pytest.raises(DataError, match=r"no images in .*looked for \.jpg"):
        Folder(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "dev"}, "split is 'dev'.*'train', 'test', 'val'"),
        ({"on_error": "ignore"}, "on_error is 'ignore'"),
        ({"channels": 4}, "channels is 4"),
        ({"limit": -1}, "limit is -1"),
        ({"resize_shorter": 2.5}, "option resize_shorter=2.5 of data 'folder' must be a whole number"),
        ({"labels": "no"}, "option labels='no' of data 'folder' must be true or false"),
        ({"classes": "cat"}, "option classes='cat' of data 'folder' must be a list of texts"),
        ({"resize_short": 2}, "no option 'resize_short'; did you mean 'resize_shorter'"),
    ],
)
def test_bad_options_are_named(tmp_path, options, message):
    write(tmp_path / "a.png")
    with pytest.raises(UserError, match=message):
        build_source("folder", tmp_path, **options)


@pytest.fixture(scope="module")
def cifar_jpegs(cifar10_archive, tmp_path_factory):
    """The first few hundred files of the archive (its members are not in class order), as class folders."""
    root = tmp_path_factory.mktemp("cifar10")
    with tarfile.open(cifar10_archive) as tar:
        for member, _ in zip((m for m in tar if m.name.endswith(".jpg")), range(300), strict=False):
            tar.extract(member, root, filter="data")
    return root


def test_real_class_folders(cifar_jpegs):
    source = Folder(cifar_jpegs)
    images = source.read()
    assert len(images) == 300 and images.storage.numel() == 300 * 32 * 32 * 3
    assert (images.sizes == 32).all()
    for position in (0, 150, 299):
        with Image.open(source.files[position]) as image:
            np.testing.assert_array_equal(images.image(position).numpy(), np.asarray(image.convert("RGB")))
    assert 60 < images.storage.float().mean() < 180


def test_real_photos(photos):
    source = Folder(photos, resize_shorter=96)
    images = source.read()
    assert images.label is None and len(images) == len(source) >= 10
    assert (images.sizes.min(dim=1).values <= 96).all() and (images.sizes[:, 0] != images.sizes[:, 1]).any()
    batch = next(MemoryLoader(images, 8).epoch(0))
    assert batch.storage.data_ptr() == images.storage.data_ptr() and len(batch) == 8


@pytest.mark.parametrize("pair", [("Train", "Test"), ("TRAIN", "VAL"), ("training", "testing"), ("Training", "val")])
def test_split_folders_in_any_case_and_form(tmp_path, pair):
    for value, split in enumerate(pair):
        for name in ("ant", "bee"):
            write(tmp_path / split / name / "a.png", value)
    train, test = Folder(tmp_path), Folder(tmp_path, "test")
    assert train.classes == test.classes == ["ant", "bee"]
    assert reds(train.read()) == [0, 0] and reds(test.read()) == [1, 1]


@pytest.mark.parametrize("beside", ["labels/a.txt", "__MACOSX/._a.png", "empty/"])
def test_flat_split_folders_beside_a_folder_without_images(tmp_path, beside):
    """They were taken for two classes, `train` and `test`."""
    for value, name in enumerate(["train/a.png", "test/b.png"]):
        write(tmp_path / name, value)
    (tmp_path / beside).parent.mkdir(exist_ok=True)
    (tmp_path / beside).mkdir() if beside.endswith("/") else (tmp_path / beside).write_text("no image")
    train = Folder(tmp_path)
    assert train.classes is None and reds(train.read()) == [0] and reds(Folder(tmp_path, "test").read()) == [1]


@pytest.mark.parametrize("pair", [("seg_train", "seg_test"), ("training_set", "test_set"), ("train2017", "val2017")])
def test_folders_that_are_evidently_splits_are_no_classes(tmp_path, pair):
    for split in pair:
        for name in ("ant", "bee"):
            write(tmp_path / split / name / "a.png")
    with pytest.raises(DataError, match=r"named like splits, .*; rename them to train and test"):
        Folder(tmp_path)
    assert Folder(tmp_path / pair[0]).classes == ["ant", "bee"]
    assert Folder(tmp_path, classes=pair).classes == list(pair)
    assert Folder(tmp_path, labels=False).classes is None


def test_classes_may_have_words_of_splits_in_their_names(tmp_path):
    for name in ("train_station", "test_tube", "valley", "bus_station"):
        write(tmp_path / name / "a.png")
    assert len(Folder(tmp_path).classes) == 4


def test_splits_within_an_only_folder_are_not_mixed(tmp_path):
    for name in ("set/train/ant/a.png", "set/train/bee/a.png", "set/test/ant/a.png"):
        write(tmp_path / name)
    with pytest.raises(DataError, match=r"nothing but set/, which is divided into test, train; give .*/set as root"):
        Folder(tmp_path)
    assert len(Folder(tmp_path, labels=False)) == 3


def test_a_folder_without_images_is_no_class(tmp_path):
    for name in ("train/ant/a.png", "train/bee/a.png", "test/cat/deep/a.png"):
        write(tmp_path / name)
    (tmp_path / "train" / "annotations").mkdir()
    (tmp_path / "train" / "annotations" / "a.xml").write_text("no image")
    assert Folder(tmp_path).classes == Folder(tmp_path, "test").classes == ["ant", "bee", "cat"]


@pytest.mark.parametrize("place", ["", "train"])
def test_a_link_to_itself_is_no_folder(tmp_path, place):
    for name in ("ant/a.png", "bee/a.png"):
        write(tmp_path / place / name)
    (tmp_path / place / "loop").symlink_to("loop")
    assert Folder(tmp_path).classes == ["ant", "bee"]


@pytest.mark.parametrize("locked", ["", "bee", "bee/deep"])
def test_a_folder_that_cannot_be_read_is_named(tmp_path, locked, monkeypatch):
    """It was left out without a word, its class with it. (The tests may run as root, who can read everything.)"""
    for name in ("ant/a.png", "bee/deep/a.png"):
        write(tmp_path / name)
    scandir = os.scandir

    def refusing(path):
        if Path(path) == tmp_path / locked:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(DataError, match=f"{tmp_path / locked} cannot be read: Permission denied"):
        Folder(tmp_path)


def test_a_root_behind_a_locked_folder_is_named(tmp_path, monkeypatch):
    def refuse(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(DataError, match=f"{tmp_path} cannot be read: Permission denied"):
        Folder(tmp_path)


def test_a_root_that_is_no_path_is_named(tmp_path):
    with pytest.raises(UserError, match=r"root is .*it must be one path"):
        Folder([tmp_path])


@pytest.mark.parametrize(("suffix", "kind"), [("jfif", "JPEG"), ("ppm", "PPM"), ("pgm", "PPM"), ("jp2", "JPEG2000")])
def test_less_common_suffixes(tmp_path, suffix, kind):
    Image.new("RGB", (4, 3), (200, 0, 0)).convert("L" if suffix == "pgm" else "RGB").save(
        tmp_path / f"a.{suffix}", kind
    )
    assert Folder(tmp_path).read().sizes.tolist() == [[3, 4]]
