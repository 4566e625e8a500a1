"""build: names, options, seeds, channels."""

from __future__ import annotations

import sys
from dataclasses import fields

import pytest
import torch
from torch import Tensor, nn

from sslfast import registry
from sslfast.augment import Views, presets
from sslfast.data import MemoryLoader
from sslfast.data.batch import ImageBatch
from sslfast.errors import UserError
from sslfast.methods import Method, build
from sslfast.methods.simclr import SimCLR
from sslfast.models import Backbone, build_backbone
from sslfast.train import TrainConfig

# Methods of colour need channels to predict; all others take 1 to 16.
CHANNELS = {"split_brain": range(2, 17), "colorization": (3,)}


class Brightness(Method):
    """A user's own method: the mean pixel of the view from its features."""

    def __init__(self, backbone: Backbone, image_size: int, seed: int, weight: float = 1.0, mode: str = "l2") -> None:
        super().__init__(backbone, presets.plain(image_size), seed)
        self.head = nn.Linear(backbone.num_features, 1)
        self.weight = weight

    def forward(self, views: Views) -> dict[str, Tensor]:
        images = views.tensors[0]
        return {
            "loss": self.weight * (self.head(self.backbone(images)).squeeze(1) - images.mean((1, 2, 3))).square().mean()
        }


@pytest.fixture
def batch() -> ImageBatch:
    return ImageBatch.from_dense(torch.randint(0, 256, (4, 20, 24, 3), dtype=torch.uint8), label=torch.arange(4) % 2)


@pytest.mark.parametrize("name", list(registry.METHODS))
def test_every_method_trains_in_the_loop_of_its_docstring(name: str, batch: ImageBatch) -> None:
    method = build(name, backbone="resnet10_narrow", image_size=32)
    before = [parameter.clone() for parameter in method.backbone.parameters()]
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9)
    loader = MemoryLoader(batch, batch_size=len(batch))  # of both classes: supcon's negatives
    for epoch in range(4):
        for part in loader.epoch(epoch):
            result = method(method.views(part, epoch))
            assert all(value.ndim == 0 and torch.isfinite(value) for value in result.values())
            result["loss"].backward()
            optimizer.step()
            optimizer.zero_grad()
    assert any(not torch.equal(a, b) for a, b in zip(before, method.backbone.parameters(), strict=True))


@pytest.mark.parametrize("name", list(registry.METHODS))
def test_every_method_names_the_least_batch_it_trains_with(name: str, batch: ImageBatch) -> None:
    method = build(name, backbone="resnet10_narrow", image_size=32)
    assert torch.isfinite(method(method.views(batch.select(slice(0, method.least_batch))))["loss"])
    if method.least_batch > 1:
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            method(method.views(batch.select(slice(0, method.least_batch - 1))))


@pytest.mark.parametrize("name", list(registry.METHODS))
def test_every_method_compiles_to_one_graph(name: str, batch: ImageBatch) -> None:
    method = build(name, backbone="resnet10_narrow").eval()  # no running statistics: both calls see the same state
    views = method.views(batch)
    compiled = torch.compile(method, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(views), method(views))


@pytest.mark.parametrize("name", list(registry.METHODS))
def test_weights_move_to_another_method(name: str, batch: ImageBatch) -> None:
    first, second = (build(name, backbone="resnet10_narrow", seed=seed).eval() for seed in (0, 1))
    views = first.views(batch)
    assert not torch.equal(first(views)["loss"], second(views)["loss"])
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(views)["loss"], second(views)["loss"])


@pytest.mark.parametrize("name", list(registry.METHODS))
def test_gradients_reach_every_parameter(name: str, batch: ImageBatch) -> None:
    """Two steps: a residual branch that starts at zero passes a gradient to its convolutions only after the first."""
    torch.manual_seed(0)
    method = build(name, backbone="resnet10_narrow", image_size=32)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        method(method.views(batch))["loss"].backward()
        optimizer.step()
    dead = [n for n, p in method.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not dead


@pytest.mark.parametrize("name", list(registry.METHODS))
def test_same_seed_same_weights_and_loss(name: str, batch: ImageBatch) -> None:
    torch.manual_seed(1)
    first = build(name, backbone="resnet10_narrow", seed=3)
    torch.manual_seed(2)
    expected_stream = torch.rand(1)
    torch.manual_seed(2)
    second = build(name, backbone="resnet10_narrow", seed=3)
    assert torch.equal(torch.rand(1), expected_stream), "build disturbs the caller's random stream"
    other = build(name, backbone="resnet10_narrow", seed=4)
    losses = [method(method.views(batch))["loss"] for method in (first, second, other)]
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        (name, channels)
        for name in registry.METHODS
        for channels in (1, 2, 16)
        if channels in CHANNELS.get(name, (1, 2, 16))
    ],
)
def test_other_channels(name: str, channels: int) -> None:
    images = torch.randint(0, 256, (4, 32, 32, channels), dtype=torch.uint8)
    batch = ImageBatch.from_dense(images, label=torch.arange(4) % 2)
    method = build(name, backbone="resnet10_narrow", in_channels=channels)
    views = method.views(batch)
    assert all(view.shape == (4, channels, 32, 32) for view in views.tensors)
    assert torch.isfinite(method(views)["loss"])
    for picture in method.pictures(views).values():
        assert picture.shape[:2] == (4, channels)


@pytest.mark.parametrize("name", list(registry.METHODS))
def test_recipe_is_made_of_training_options(name: str) -> None:
    recipe = registry.resolve("methods", name).recipe
    known = {field.name for field in fields(TrainConfig)}
    assert set(recipe) <= known
    assert {"optimizer", "learning_rate", "batch_size", "epochs", "schedule", "weight_decay"} <= set(recipe)


@pytest.mark.parametrize(("name", "mean"), [("simclr", presets.CIFAR_MEAN), ("denoising_autoencoder", (0.0,))])
def test_evaluation_sees_the_statistics_of_training(name: str, mean: tuple[float, ...]) -> None:
    method = build(name, backbone="resnet10_narrow", image_size=48)
    view = method.evaluation_view
    assert view == presets.plain(48)[0].replace(mean=mean, std=method.multi_view.specs[0].std)


def test_own_class(batch: ImageBatch) -> None:
    sys.modules["my_methods"] = sys.modules[__name__]
    try:
        method = build("my_methods:Brightness", backbone="resnet10_narrow", weight=2)
    finally:
        del sys.modules["my_methods"]
    assert isinstance(method, Brightness) and method.weight == 2
    assert isinstance(build(Brightness, backbone="resnet10_narrow"), Brightness)
    assert torch.isfinite(method(method.views(batch))["loss"])


def test_own_class_with_another_constructor() -> None:
    class Seedless(Method):
        def __init__(self, backbone: Backbone, image_size: int) -> None:
            super().__init__(backbone, presets.plain(image_size))

    with pytest.raises(UserError, match=r"constructor of Seedless must take .*; add \['seed'\]"):
        build(Seedless, backbone="resnet10_narrow")


def test_own_class_that_takes_any_option() -> None:
    class Open(Brightness):
        def __init__(self, backbone: Backbone, image_size: int, seed: int, **options: object) -> None:
            super().__init__(backbone, image_size, seed)
            self.options = options

    assert build(Open, backbone="resnet10_narrow", anything="goes").options == {"anything": "goes"}


def test_own_backbone() -> None:
    backbone = build_backbone("conv9", 24)
    assert build("simclr", backbone=backbone, image_size=24).backbone is backbone
    with pytest.raises(UserError, match="made for 24 px and 3 channels, the method for 32 px and 1 channels"):
        build("simclr", backbone=backbone, image_size=32, in_channels=1)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("simclear", {}, "did you mean 'simclr'"),
        ("simclr", {"backbone": "resnet81"}, "did you mean .*'resnet18'"),
        ("simclr", {"temprature": 0.5}, "unknown option 'temprature' of SimCLR; did you mean 'temperature'"),
        ("simclr", {"zzz": 0.5}, "valid names: projection_dim, smallest_crop, strength, temperature"),
        ("autoencoder", {"gaussian": 0.1}, "unknown option 'gaussian' of Autoencoder; it has none"),
        ("simclr", {"temperature": "hot"}, "temperature='hot' of SimCLR must be a number$"),
        ("simclr", {"temperature": "5e-1"}, r"must be a number; YAML reads this as text, write 0\.5$"),
        ("simclr", {"temperature": True}, "temperature=True of SimCLR must be"),
        ("simclr", {"projection_dim": 12.5}, "projection_dim=12.5 of SimCLR must be a whole number"),
        ("simclr", {"projection_dim": 0}, "out_features of the projector is 0"),
        ("simclr", {"temperature": 0.0}, "temperature"),
        ("simclr", {"temperature": -0.5}, "temperature"),
        ("simclr", {"strength": -1.0}, "brightness is -0.8"),
        ("simclr", {"strength": 4.0}, "hue is 0.8"),
        ("simclr", {"in_channels": 17}, "in_channels is 17"),
        ("split_brain", {"image_size": "32"}, "image_size is '32'; choose the side"),
        ("simclr", {"in_channels": "3"}, "in_channels is '3'"),
        ("rotation", {"angles": 3}, "choose 2, 4 or 8"),
        ("rotation", {"angles": [0, "90"]}, "must be a whole number or a list of numbers$"),
        ("denoising_autoencoder", {"masking": 1.5}, "noise_masking is 1.5"),
        ("denoising_autoencoder", {"gaussian": -1.0}, "noise_gaussian is -1.0"),
        ("no_such_package:Method", {}, "cannot load"),
        ("torch.nn:Linear", {}, "derive your class from it"),
    ],
)
def test_bad_names_and_options(name: str, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(name, **{"backbone": "resnet10_narrow", **options})


def test_a_method_without_forward_says_so(batch: ImageBatch) -> None:
    method = Method(build_backbone("conv9"), presets.plain(32))
    with pytest.raises(TypeError, match="Method must define forward"):
        method(method.views(batch))


def test_hooks_do_nothing_by_default(batch: ImageBatch) -> None:
    method = build("simclr", backbone="resnet10_narrow")
    state = {name: value.clone() for name, value in method.state_dict().items()}
    method.after_step(0, 1)
    method.before_epoch(None)
    assert method.pictures(method.views(batch)) == {}
    assert all(torch.equal(value, state[name]) for name, value in method.state_dict().items())
    assert set(method.players()) == {"model"}
    assert len(list(method.players()["model"])) == len(list(method.parameters()))


def test_temperature_follows_the_paper() -> None:
    assert [build(SimCLR, "resnet10_narrow", size).loss.temperature for size in (32, 96)] == [0.5, 0.1]
