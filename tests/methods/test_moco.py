"""MoCo: the loss against equation 1 in float64 numpy, the queue's order, the momentum encoder, ranks, and learning."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, distributed, multiprocessing
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from sslfast.augment import Views, presets
from sslfast.data.batch import ImageBatch
from sslfast.errors import UserError
from sslfast.methods import Method, build


def moco(**options: object) -> Method:
    return build("moco", backbone="resnet10_narrow", **{"queue_size": 32, **options})


@torch.no_grad()
def keys_of(method: Method, views: Views) -> Tensor:
    return functional.normalize(method.key_encoder(views.tensors[1]), dim=1)


def info_nce(queries: np.ndarray, keys: np.ndarray, queue: np.ndarray, temperature: float) -> float:
    """Equation 1, query by query: the positive comes first among 1 + K logits."""
    queries = queries.astype(np.float64) / np.linalg.norm(queries.astype(np.float64), axis=1, keepdims=True)
    losses = []
    for query, key in zip(queries, keys.astype(np.float64), strict=True):
        logits = np.array([query @ key, *(query @ negative for negative in queue.astype(np.float64))]) / temperature
        losses.append(np.log(np.exp(logits).sum()) - logits[0])
    return float(np.mean(losses))


@pytest.mark.parametrize(("version", "temperature"), [(1, 0.07), (2, 0.2), (2, 1.0)])
def test_loss_is_the_paper_s(blobs: ImageBatch, version: int, temperature: float) -> None:
    method = moco(version=version, temperature=temperature)
    views = method.views(blobs)
    with torch.no_grad():
        queries = method.projector(method.backbone(views.tensors[0])).numpy()
        keys, queue = keys_of(method, views).numpy(), method.queue.bank.clone().numpy()
        loss = method(views)["loss"]
    assert float(loss) == pytest.approx(info_nce(queries, keys, queue, temperature), rel=1e-5)


def test_versions_differ_in_projection_views_and_temperature() -> None:
    first, second = moco(version=1), moco(version=2)
    assert [type(layer).__name__ for layer in first.projector.layers] == ["Linear"]
    assert [type(layer).__name__ for layer in second.projector.layers] == ["Linear", "ReLU", "Linear"]
    assert first.multi_view.specs == presets.moco_v1(32) and second.multi_view.specs == presets.moco_v2(32)
    assert [method.loss.temperature for method in (first, second)] == [0.1, 0.1]
    large = [moco(version=version, image_size=96) for version in (1, 2)]
    assert [method.loss.temperature for method in large] == [0.07, 0.2]
    assert [method.key_encoder.momentum for method in (second, large[1])] == [0.99, 0.999]


@pytest.mark.parametrize(("image_size", "keys"), [(32, 4096), (96, 65536)])
def test_length_of_the_queue(image_size: int, keys: int) -> None:
    method = build("moco", backbone="resnet10_narrow", image_size=image_size)
    assert method.queue.bank.shape == (keys, 128)
    torch.testing.assert_close(method.queue.bank.norm(dim=1), torch.ones(keys))


def test_the_queue_is_first_in_first_out(blobs: ImageBatch) -> None:
    """Three batches of eight fill a queue of 24; the fourth replaces the first."""
    method = moco(queue_size=24)
    expected = method.queue.bank.clone()
    for epoch in range(4):
        views = method.views(blobs, epoch)
        place = epoch % 3 * 8
        expected[place : place + 8] = keys_of(method, views)
        method(views)
        torch.testing.assert_close(method.queue.bank, expected)
    assert int(method.queue.bank_ptr) == 8


def test_the_queue_stays_in_eval_mode(blobs: ImageBatch) -> None:
    method = moco().eval()
    before = method.queue.bank.clone()
    views = method.views(blobs)
    assert torch.equal(method(views)["loss"], method(views)["loss"])
    assert torch.equal(method.queue.bank, before) and int(method.queue.bank_ptr) == 0


def test_the_key_encoder_learns_by_momentum_alone(blobs: ImageBatch) -> None:
    method = moco(momentum=0.9)
    before = [parameter.clone() for parameter in method.key_encoder.parameters()]
    optimizer = torch.optim.SGD(method.parameters(), lr=0.5)
    method(method.views(blobs))["loss"].backward()
    optimizer.step()
    assert all(parameter.grad is None for parameter in method.key_encoder.parameters())
    assert all(map(torch.equal, before, method.key_encoder.parameters()))
    method.after_step(1, 10)
    online = [*method.backbone.parameters(), *method.projector.parameters()]
    for slow, old, new in zip(method.key_encoder.parameters(), before, online, strict=True):
        torch.testing.assert_close(slow, 0.9 * old + 0.1 * new)


def test_a_few_steps_lower_the_loss(blobs: ImageBatch) -> None:
    """Four of the images learn; the keys of the other four are their negatives throughout."""
    method = moco(queue_size=4, temperature=0.5)
    images, others = blobs.select(slice(0, 4)), blobs.select(slice(4, 8))
    negatives = keys_of(method, method.views(others))
    views = method.views(images)
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-3)
    losses = []
    for step in range(1, 11):
        method.queue.bank.copy_(negatives)
        loss = method(views)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step(step, 10)
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"version": 3}, "version of MoCo is 3; choose 1 or 2"),
        ({"queue_size": 0}, "queue_size is 0"),
        ({"momentum": 1.5}, r"momentum of the momentum encoder is 1.5"),
        ({"temperature": 0.0}, "temperature"),
        ({"projection_dim": 0}, "out_features of the projector is 0"),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        moco(**options)


RANKS = 2


def _work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=RANKS)
    generator = torch.Generator().manual_seed(rank)
    images = torch.randint(0, 256, (4, 16, 16, 3), dtype=torch.uint8, generator=generator)
    batch = ImageBatch.from_dense(images, index=torch.arange(4) + 4 * rank)
    method = build("moco", backbone="resnet10_narrow", image_size=16, queue_size=16, momentum=0.5)
    method.key_encoder.eval()  # no batch statistics: what a key is does not depend on the shuffle
    model = DistributedDataParallel(method)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    keys = []
    for step in range(1, 3):
        views = method.views(batch, step)
        keys.append(keys_of(method, views))
        model(views)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        method.after_step(step, 2)
    torch.save({"keys": keys, "state": method.state_dict()}, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_ranks_share_queue_and_key_encoder(tmp_path: Path) -> None:
    if not distributed.is_available() or not distributed.is_gloo_available():
        pytest.skip("this torch has no gloo")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    multiprocessing.spawn(_work, (str(tmp_path),), nprocs=RANKS)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(RANKS))
    for name, value in first["state"].items():
        if "running" not in name:  # the first rank's statistics are what is saved
            assert torch.equal(value, second["state"][name]), name
    stored = torch.cat([keys for step in range(2) for keys in (first["keys"][step], second["keys"][step])])
    torch.testing.assert_close(first["state"]["queue.bank"], stored)


def test_metrics_are_logged(blobs: ImageBatch) -> None:
    method = moco()
    output = method(method.views(blobs))
    assert list(output) == ["loss", "accuracy", "positive_similarity", "negative_similarity"]
    assert output["loss"].requires_grad and not output["accuracy"].requires_grad
    assert 0 <= output["accuracy"] <= 1 and output["positive_similarity"] <= 1
