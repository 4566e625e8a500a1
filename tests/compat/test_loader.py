"""compat's loader: the structure of torch's, views of whole batches, streams that repeat."""

from collections import namedtuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader as TorchDataLoader
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from sslfast.augment import MultiView
from sslfast.compat.lightly.transforms import BYOLView1Transform, SimCLRTransform, SwaVTransform
from sslfast.compat.pending import PendingImage, views_put_off
from sslfast.compat.torch import DataLoader
from sslfast.compat.torchvision import transforms
from sslfast.data import ImageBatch
from sslfast.errors import UserError

SIZES = [(20, 30), (33, 17), (16, 16), (40, 21), (18, 19), (25, 50), (31, 31)]
Sample = namedtuple("Sample", ["views", "label"])


def pixels(position):
    return np.random.default_rng(position).integers(0, 256, (*SIZES[position], 3), dtype=np.uint8)


class Images(Dataset):
    """Seven images of mixed sizes; `form` shapes a sample."""

    def __init__(self, transform, form=lambda views, label: (views, label)):
        self.transform, self.form = transform, form

    def __len__(self):
        return len(SIZES)

    def __getitem__(self, position):
        return self.form(self.transform(Image.fromarray(pixels(position))), position + 10)


class Stream(IterableDataset):
    def __iter__(self):
        images = Images(SimCLRTransform(8))
        yield from (images[position] for position in range(len(SIZES)))


def epoch(data, seed=0, **options):
    torch.manual_seed(seed)
    return list(DataLoader(data, 3, **options))


def test_batches_have_torch_s_structure():
    forms = {
        "tuple": lambda views, label: (views, label),
        "with file name": lambda views, label: (views, label, f"{label}.jpg"),
        "dictionary": lambda views, label: {"views": views, "meta": {"label": label}},
        "named tuple": Sample,
        "index first": lambda views, label: (label, [views, label]),
    }
    for name, form in forms.items():
        for transform in (SimCLRTransform(8), SwaVTransform((8, 4), (2, 3)), BYOLView1Transform(8)):
            ours, theirs = (
                list(loader(Images(transform, form), 3, drop_last=True)) for loader in (DataLoader, TorchDataLoader)
            )
            assert len(ours) == len(theirs) == 2

            def same(ours, theirs, name=name):
                assert type(ours) is type(theirs), name
                if isinstance(theirs, torch.Tensor):
                    assert (ours.shape, ours.dtype, ours.device) == (theirs.shape, theirs.dtype, theirs.device), name
                    assert ours.is_floating_point() or ours.equal(theirs)
                elif isinstance(theirs, dict):
                    assert ours.keys() == theirs.keys()
                    for key in theirs:
                        same(ours[key], theirs[key])
                elif isinstance(theirs, list | tuple):
                    assert len(ours) == len(theirs)
                    for pair in zip(ours, theirs, strict=True):
                        same(*pair)
                else:
                    assert ours == theirs

            same(ours, theirs)


@pytest.mark.parametrize("workers", [0, 2])
def test_views_are_those_of_the_whole_batch(workers):
    """The position in the epoch names an image's stream, the generator's next number the epoch's."""
    batches = epoch(Images(SimCLRTransform(8)), seed=5, num_workers=workers)
    torch.manual_seed(5)
    torch.empty((), dtype=torch.int64).random_()  # torch's loader draws first
    seed = int(torch.empty((), dtype=torch.int64).random_())
    whole = ImageBatch.from_list([torch.from_numpy(pixels(i)) for i in range(len(SIZES))])
    expected = MultiView(SimCLRTransform(8).specs, seed)(whole).tensors
    for view in range(2):
        torch.testing.assert_close(torch.cat([views[view] for views, _ in batches]), expected[view], rtol=0, atol=0)
    assert torch.cat([labels for _, labels in batches]).tolist() == list(range(10, 17))


@pytest.mark.parametrize("options", [{}, {"shuffle": True}, {"num_workers": 2, "shuffle": True}])
def test_manual_seed_repeats_a_run(options):
    data = Images(SimCLRTransform(8))
    first, again, other = (epoch(data, seed, **options) for seed in (1, 1, 2))
    for (views, labels), (same_views, same_labels), (other_views, _) in zip(first, again, other, strict=True):
        assert labels.equal(same_labels)
        for view, same, different in zip(views, same_views, other_views, strict=True):
            assert view.equal(same)
            assert not view.equal(different)
    if options.get("shuffle"):  # the order is that of torch's loader
        torch.manual_seed(1)
        order = list(TorchDataLoader(Images(lambda image: 0), 3, **options))
        assert [labels.tolist() for _, labels in first] == [labels.tolist() for _, labels in order]


@pytest.mark.parametrize("options", [{}, {"num_workers": 1, "persistent_workers": True}])
def test_epochs_differ(options):
    loader = DataLoader(Images(SimCLRTransform(8)), 7, **options)
    ((first, _),), ((second, _),) = list(loader), list(loader)
    assert not first[0].equal(second[0])
    assert not first[0].equal(first[1])


def test_a_generator_of_one_s_own():
    def views():
        loader = DataLoader(Images(SimCLRTransform(8)), 7, generator=torch.Generator().manual_seed(3))
        return next(iter(loader))[0][0]

    assert views().equal(views())


def test_two_calls_of_one_transform_differ():
    transform = transforms.Compose([transforms.RandomResizedCrop(8), transforms.ToTensor()])
    for views, _ in epoch(Images(lambda image: [transform(image), transform(image)])):
        assert views[0].shape[1:] == (3, 8, 8)
        assert not views[0].equal(views[1])


def test_iterable_data_sets_and_subsets():
    (views, labels), *_ = epoch(Stream(), num_workers=1)
    assert (views[1].shape, labels.tolist()) == ((3, 3, 8, 8), [10, 11, 12])
    ((_, labels),) = epoch(Subset(Images(SimCLRTransform(8)), [4, 2]))
    assert labels.tolist() == [14, 12]


def test_workers_only_read():
    """With the user's `worker_init_fn` besides."""
    with views_put_off():
        assert isinstance(SimCLRTransform(8)(Image.fromarray(pixels(0))), PendingImage)
    started = torch.zeros(2).share_memory_()

    def start(worker):
        started[worker] = 1

    epoch(Images(SimCLRTransform(8)), num_workers=2, worker_init_fn=start)
    assert started.tolist() == [1, 1]


def test_without_our_transform_it_is_torch_s_loader():
    data = TensorDataset(torch.arange(10), torch.rand(10, 2))
    torch.manual_seed(0)
    ours = [batch for _ in range(2) for batch in DataLoader(data, 4, shuffle=True)]
    torch.manual_seed(0)
    theirs = [batch for _ in range(2) for batch in TorchDataLoader(data, 4, shuffle=True)]
    for a, b in zip(ours, theirs, strict=True):
        assert type(a) is type(b)
        assert all(x.equal(y) for x, y in zip(a, b, strict=True))


def test_a_collate_fn_of_one_s_own_gets_views():
    def collate(samples):
        assert all(isinstance(views[0], torch.Tensor) for views, _ in samples)
        return torch.stack([views[0] for views, _ in samples])

    assert [batch.shape[0] for batch in epoch(Images(SimCLRTransform(8)), collate_fn=collate)] == [3, 3, 1]


def test_one_batch_one_transform():
    first, second = SimCLRTransform(8), SimCLRTransform(8)
    data = Images(lambda image: (first if image.width > 20 else second)(image))
    with pytest.raises(UserError, match="different transforms"):
        epoch(data)


def test_one_image():
    image = Image.fromarray(pixels(0))
    torch.manual_seed(0)
    views = SimCLRTransform(8)(image)
    torch.manual_seed(0)
    again = SimCLRTransform(8)(torch.from_numpy(pixels(0)).movedim(-1, 0))
    assert [view.shape for view in views] == [(3, 8, 8)] * 2
    assert all(view.equal(same) for view, same in zip(views, again, strict=True))
    assert not views[0].equal(SimCLRTransform(8)(image)[0])
    gray = SimCLRTransform(8, normalize=None)(image.convert("L"))
    assert [view.shape for view in gray] == [(1, 8, 8)] * 2
    assert BYOLView1Transform(8)(image).shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.new("P", (4, 4)), r"convert\('RGB'\)"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), "one image"),
        (torch.zeros(3, 4, 4), "uint8"),
        ([1, 2], "PIL image"),
    ],
)
def test_bad_images(image, message):
    with pytest.raises(UserError, match=message):
        SimCLRTransform(8)(image)
