"""DaliLoader on a GPU: nvJPEG's pixels, DALI's memory without a copy, and no wait between the two streams."""

import time

import numpy as np
import pytest
import torch
from PIL import Image

from sslfast.augment import MultiView, presets
from sslfast.data import DaliLoader, MemoryLoader, build_source

pytestmark = pytest.mark.cuda

SLEEP_CYCLES = 1 << 30  # about half a second


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """24 images of mixed sizes in two classes: colour and gray JPEG, CMYK, PNG, and one on its side."""
    pytest.importorskip("nvidia.dali")
    root = tmp_path_factory.mktemp("files")
    for number in range(24):
        y, x = np.mgrid[: 40 + number, : 90 - number] / 90
        waves = np.stack([128 + 100 * np.sin(3 * x + number + k) * np.cos(2 * y - k) for k in range(3)], axis=-1)
        image, options = Image.fromarray(waves.round().astype(np.uint8)), {"quality": 95}
        if number % 6 == 1:
            image = image.convert("L")
        elif number % 6 == 2:
            image = image.convert("CMYK")
        elif number % 6 == 4:
            options["exif"] = Image.Exif()
            options["exif"][0x0112] = 6
        path = root / "ab"[number % 2] / f"{number:02}.{'png' if number % 6 == 3 else 'jpg'}"
        path.parent.mkdir(exist_ok=True)
        image.save(path, **({} if path.suffix == ".png" else options))
    return root


def loaders(root, **options):
    source = build_source("folder", root, **options)
    return DaliLoader(source, 4, device="cuda", threads=2), MemoryLoader(source.read(), 4)


@pytest.mark.parametrize("options", [{}, {"channels": 1}, {"resize_shorter": 32}])
def test_batches_are_those_of_the_memory_loader(files, options):
    """All batches of an epoch are kept, so memory that DALI took back too early would show."""
    on_gpu, in_memory = loaders(files, **options)
    for epoch in (0, 1):
        for ours, theirs in zip(list(on_gpu.epoch(epoch)), in_memory.epoch(epoch), strict=True):
            for name in ("storage", "offsets", "sizes", "index", "label"):
                column = getattr(ours, name)
                assert column.is_cuda and column.dtype == getattr(theirs, name).dtype
            assert ours.index.tolist() == theirs.index.tolist() and ours.sizes.tolist() == theirs.sizes.tolist()
            assert ours.label.tolist() == theirs.label.tolist()
            assert ours.storage.numel() == (ours.sizes.long().prod(dim=1) * ours.channels).sum()
            for position in range(len(ours)):
                difference = (ours.image(position).cpu().int() - theirs.image(position).int()).abs().float()
                assert difference.max() <= 12 and difference.mean() <= 1.5


def test_storage_is_the_memory_of_dali(files, monkeypatch):
    pointers = []
    wrap = DaliLoader._batch

    def recorded(self, batch, positions):
        pointers.append([batch[number].data_ptr() for number in range(len(batch))])
        return wrap(self, batch, positions)

    monkeypatch.setattr(DaliLoader, "_batch", recorded)
    batches = list(loaders(files)[0].epoch(0))
    assert [(batch.offsets + batch.storage.data_ptr()).tolist() for batch in batches] == pointers


def test_views_on_the_stream_that_is_current(files):
    """Batches are used and dropped on a side stream that is late: DALI must not write over what is still to be read."""
    views = MultiView(presets.simclr(32), seed=1)
    expected = [views(batch).tensors[0] for batch in loaders(files)[0].epoch(0)]
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        got = []
        for batch in loaders(files)[0].epoch(0):
            torch.cuda._sleep(SLEEP_CYCLES // 16)
            got.append(views(batch).tensors[0])
            del batch
    stream.synchronize()
    for ours, theirs in zip(got, expected, strict=True):
        assert torch.equal(ours, theirs)


def test_the_host_does_not_wait_for_the_step_before(files):
    """While the stream still works on a step, the next batch is handed over."""
    batches = loaders(files)[0].epoch(0)
    views = MultiView(presets.simclr(32))
    views(next(batches))
    next(batches)  # everything is loaded and allocated
    torch.cuda.synchronize()
    stream = torch.cuda.current_stream()
    torch.cuda._sleep(SLEEP_CYCLES)
    begin = time.perf_counter()
    views(next(batches))
    seconds = time.perf_counter() - begin
    assert not stream.query(), f"the batch came after {seconds:.3f} s, when the stream had finished"
    batches.close()
