"""compat's loader where other libraries take it over, and data sets that do more than hand views on."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader as TorchDataLoader
from torch.utils.data import Dataset

from sslfast.compat.lightly.transforms import BYOLView1Transform, SimCLRTransform, SwaVTransform
from sslfast.compat.torch import DataLoader
from sslfast.data import ImageBatch


class Images(Dataset):
    """Six images; `form` shapes a sample from what the transform gives."""

    def __init__(self, transform, form=lambda views: views):
        self.transform, self.form = transform, form

    def __len__(self):
        return 6

    def __getitem__(self, position):
        pixels = np.random.default_rng(position).integers(0, 256, (3, 12, 17), dtype=np.uint8)
        return self.form(self.transform(torch.from_numpy(pixels)))


class ReadInThreads(Images):
    def __getitems__(self, positions):
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(self.__getitem__, positions))


def views(data, **options):
    torch.manual_seed(0)
    return [torch.cat(parts) for parts in zip(*DataLoader(data, 3, **options), strict=True)]


def equal(ours, theirs):
    return len(ours) == len(theirs) and all(a.equal(b) for a, b in zip(ours, theirs, strict=True))


def unpacked(views):
    first, second = views
    return first, second


@pytest.mark.parametrize("workers", [0, 1])
def test_views_may_be_taken_apart(workers):
    """What stands for the views behaves like the list of them, and the views stay the same."""
    whole = views(Images(SimCLRTransform(8)), num_workers=workers)
    assert len(whole) == 2 and not whole[0].equal(whole[1])
    assert equal(views(Images(SimCLRTransform(8), unpacked), num_workers=workers), whole)
    assert equal(views(Images(SimCLRTransform(8), lambda v: [v[1], v[-1], v[0]])), [whole[1], whole[1], whole[0]])
    assert equal(views(Images(SimCLRTransform(8), lambda v: [v[k] for k in range(len(v))])), whole)
    crops = views(Images(SwaVTransform((8, 4), (2, 3))))
    assert equal(views(Images(SwaVTransform((8, 4), (2, 3)), lambda v: [*v[:2], *v[2:]])), crops)


def test_two_calls_taken_apart_differ():
    transform = SimCLRTransform(8)
    first, second = views(Images(lambda image: [transform(image)[0], transform(image)[0]]))
    assert not first.equal(second)


@pytest.mark.parametrize(
    ("transform", "form", "error"),
    [
        (SimCLRTransform(8), lambda views: views[0].half(), AttributeError),
        (SimCLRTransform(8), lambda views: views[0][0], TypeError),
        (BYOLView1Transform(8), lambda view: view[0], TypeError),
        (BYOLView1Transform(8), lambda view: view.shape, AttributeError),
    ],
)
def test_views_have_no_values_in_the_data_set(transform, form, error):
    with pytest.raises(error, match=r"draws them for the whole batch; .* take torch\.utils\.data\.DataLoader"):
        views(Images(transform, form))
    assert len(list(TorchDataLoader(Images(transform, lambda _: 0), 3))) == 2


def test_workers_that_read_in_threads_leave_the_views_as_well():
    plain = views(Images(SimCLRTransform(8)), num_workers=1)
    assert equal(views(ReadInThreads(SimCLRTransform(8)), num_workers=1), plain)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_made_from_this_one_s_settings(workers):
    """As Accelerate makes them: torch's own gets tensors, from the transform itself."""
    ours = DataLoader(Images(SimCLRTransform(8)), 3, num_workers=workers)
    names = ("num_workers", "collate_fn", "worker_init_fn", "generator", "prefetch_factor", "persistent_workers")
    for _ in range(2):
        other = TorchDataLoader(
            ours.dataset, batch_sampler=ours.batch_sampler, **{name: getattr(ours, name) for name in names}
        )
        for batch in other:
            assert [view.shape for view in batch] == [(3, 3, 8, 8)] * 2
        assert [view.shape for view in next(iter(ours))] == [(3, 3, 8, 8)] * 2


def test_images_stay_where_they_are_whatever_the_default_device():
    """A script may have set it to a GPU, which workers that were forked cannot use; "meta" has no values to use."""
    transform = SimCLRTransform(8)
    images = [torch.full((9, 10, 3), value, dtype=torch.uint8) for value in (7, 8)]
    with torch.device("meta"):
        one = transform(images[0].movedim(-1, 0))
        batches = [ImageBatch.from_list(images), ImageBatch.from_dense(torch.stack(images))]
        empty = ImageBatch.from_list([])
    assert [view.device.type for view in one] == ["cpu", "cpu"]
    for batch in (*batches, empty):
        tables = (batch.storage, batch.offsets, batch.sizes, batch.index)
        assert all(table.device.type == "cpu" for table in tables)
    assert batches[0].image(1).equal(images[1]) and batches[1].index.tolist() == [0, 1]
