"""Methods in other people's programs: other precisions, the meta device, shards, copies."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import Tensor, distributed

from sslfast import registry
from sslfast.augment import GridViews, Views
from sslfast.data.batch import ImageBatch
from sslfast.errors import UserError
from sslfast.methods import Method, build

SMALL = {
    "moco": {"queue_size": 32},
    "nnclr": {"queue_size": 32, "hidden_dim": 32, "prediction_hidden_dim": 32},
    "byol": {"hidden_dim": 32},
    "simsiam": {"projection_dim": 32},
    "jigsaw": {"hidden_features": 32, "patch_features": 16},
}
NAMES = list(registry.METHODS)


def small(name: str, seed: int = 0) -> Method:
    return build(name, backbone="resnet10_narrow", seed=seed, **SMALL.get(name, {}))


@pytest.fixture
def batch() -> ImageBatch:
    images = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageBatch.from_dense(images, label=torch.arange(4) % 2)


def converted(views: Views, dtype: torch.dtype) -> Views:
    views = copy.copy(views)
    views.tensors = [tensor.to(dtype) for tensor in views.tensors]
    if isinstance(views, GridViews):
        views.patches = views.patches.to(dtype)
    return views


def step(method: Method, views: Views) -> Tensor:
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    loss = method(views)["loss"]
    loss.backward()
    optimizer.step()
    method.after_step(1, 10)
    return loss.detach()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_every_method_trains_in_other_precisions(name: str, dtype: torch.dtype, batch: ImageBatch) -> None:
    """Of the weights themselves, as `.half()` and `.double()` make them."""
    method = small(name)
    views = method.views(batch)
    expected = copy.deepcopy(method)(views)["loss"]
    loss = step(method.to(dtype), converted(views, dtype))
    assert loss.isfinite() and (loss.dtype == torch.float64) == (dtype == torch.float64)
    for picture in method.pictures(converted(views, dtype)).values():
        assert picture.isfinite().all()
    torch.testing.assert_close(
        loss.float(), expected.detach(), rtol=1e-4 if dtype == torch.float64 else 0.05, atol=0.02
    )


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("name", ["moco", "colorization", "split_brain"])
def test_weights_may_follow_a_method_on_the_meta_device(name: str, assign: bool, batch: ImageBatch) -> None:
    trained = small(name)
    with torch.device("meta"):
        method = small(name, seed=1)
    if not assign:
        method.to_empty(device="cpu")
        for buffer in method.buffers():
            buffer.zero_()  # what is not filled may be anything
    method.load_state_dict(trained.state_dict(), assign=assign)
    views = trained.views(batch)
    assert torch.equal(method.eval()(views)["loss"], trained.eval()(views)["loss"])


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_without_images_is_refused(name: str, batch: ImageBatch) -> None:
    with pytest.raises(UserError, match="has no images"):
        small(name).views(batch.select(slice(0, 0)))


@pytest.mark.parametrize("name", NAMES)
def test_copies_train_alike(name: str, batch: ImageBatch) -> None:
    method = small(name)
    whole = io.BytesIO()
    torch.save(method, whole)
    whole.seek(0)
    views = method.views(batch)
    copies = [copy.deepcopy(method), pickle.loads(pickle.dumps(method)), torch.load(whole, weights_only=False)]
    step(method, views)
    for other in copies:
        step(other, views)
        for key, value in method.state_dict().items():
            assert value.equal(other.state_dict()[key]), key


@pytest.fixture
def alone() -> object:
    """A process group of one rank."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield None
    distributed.destroy_process_group()


# Pooled features are a view of the pooled map; nothing here writes into them.
@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module:UserWarning")
@pytest.mark.parametrize("name", NAMES)
def test_sharded_methods_train_alike(name: str, batch: ImageBatch, alone: object) -> None:
    """Backbone and method by fully_shard; feature maps are a second way into a backbone that FSDP has to be told."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    method = small(name)
    views, plain = method.views(batch), copy.deepcopy(method)
    mesh = init_device_mesh("cpu", (1,))
    fully_shard(method.backbone, mesh=mesh)
    register_fsdp_forward_method(method.backbone, "group_maps" if name == "split_brain" else "feature_map")
    fully_shard(method, mesh=mesh)
    torch.testing.assert_close(step(method, views), step(plain, views))
    for key, value in method.state_dict().items():
        value = value.full_tensor() if hasattr(value, "full_tensor") else value
        torch.testing.assert_close(value, plain.state_dict()[key], msg=lambda text, key=key: f"{key}: {text}")
