"""Exported backbones give the same features in the library they are exported to."""

import json
import resource
import shutil
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from sslfast.errors import TrainingError, UserError
from sslfast.export import export
from sslfast.models import build_backbone
from sslfast.train import TrainConfig, load_run, pretrain


def make_run(folder: Path, backbone: str, image_size: int) -> Path:
    """A run of one step."""
    config = TrainConfig(
        method="rotation",
        data="shapes",
        backbone=backbone,
        image_size=image_size,
        limit=2,
        batch_size=2,
        epochs=1,
        optimizer="sgd",
        learning_rate=0.1,
        out=str(folder / f"{backbone}-{image_size}"),
    )
    return pretrain(config)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("export"), "resnet18", 32)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def features(run: Path, images: Tensor) -> Tensor:
    return load_run(run).backbone()(images)


def small_stem(network: nn.Module) -> nn.Module:
    """The change that the README asks for before small-image weights are loaded."""
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


@torch.no_grad()
def test_safetensors_load_into_a_fresh_backbone(run: Path, images: Tensor, tmp_path: Path) -> None:
    file = export(run, out=tmp_path / "new" / "weights.safetensors")
    with safe_open(file, "pt") as opened:
        assert opened.metadata()["backbone"] == "resnet18"
    backbone = build_backbone("resnet18").eval()
    backbone.load_state_dict(load_file(file))
    torch.testing.assert_close(backbone(images), features(run, images), rtol=0, atol=0)


@torch.no_grad()
def test_timm_loads_the_weights(run: Path, images: Tensor) -> None:
    network = small_stem(timm.create_model("resnet18", num_classes=0)).eval()
    network.load_state_dict(load_file(export(run, "timm")))
    torch.testing.assert_close(network(images), features(run, images))


@torch.no_grad()
def test_torchvision_loads_the_weights(run: Path, images: Tensor) -> None:
    network = small_stem(torchvision.models.resnet18()).eval()
    missing, unexpected = network.load_state_dict(load_file(export(run, "torchvision")), strict=False)
    assert (set(missing), unexpected) == ({"fc.weight", "fc.bias"}, [])
    network.fc = nn.Identity()
    torch.testing.assert_close(network(images), features(run, images))


def test_timm_network_by_its_own_name(tmp_path: Path) -> None:
    """A network from timm keeps its stem: the weights load as they are."""
    run = make_run(tmp_path, "resnet10t", 96)
    network = timm.create_model("resnet10t", num_classes=0).eval()
    network.load_state_dict(load_file(export(run, "timm")))
    pixels = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(network(pixels), features(run, pixels))


def test_torchvision_at_full_size_needs_no_change(tmp_path: Path) -> None:
    run = make_run(tmp_path, "resnet18", 96)
    missing, unexpected = torchvision.models.resnet18().load_state_dict(
        load_file(export(run, "torchvision")), strict=False
    )
    assert (set(missing), unexpected) == ({"fc.weight", "fc.bias"}, [])


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch's exporter, of itself
def test_onnx_gives_the_same_features_at_any_batch_size(run: Path, images: Tensor) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    reference = pytest.importorskip("onnx.reference")
    network = reference.ReferenceEvaluator(str(export(run, "onnx")))
    for count in (1, 3):
        (found,) = network.run(None, {"images": images[:count].numpy()})
        torch.testing.assert_close(torch.from_numpy(found), features(run, images[:count]), rtol=1e-3, atol=1e-3)


def test_onnx_missing_says_what_to_install(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None)
    with pytest.raises(UserError, match=r"sslfast\[onnx\]"):
        export(run, "onnx")


@pytest.mark.parametrize("format", ["safetensors", "timm"])
def test_weights_that_have_diverged_are_not_written(run: Path, tmp_path: Path, format: str) -> None:
    """The last step of a training can do that, behind a last loss that is finite."""
    folder = shutil.copytree(run, tmp_path / "run")
    state = torch.load(folder / "last.ckpt", weights_only=True)
    name = next(name for name in state["method"] if name.startswith("backbone.") and name.endswith("conv1.weight"))
    state["method"][name][0, 0] = torch.nan
    torch.save(state, folder / "last.ckpt")
    with pytest.raises(
        TrainingError, match=r"not finite .1 tensors, network\.conv1\.weight first.*lower learning rate"
    ):
        export(folder, format, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("backbone", ["conv9", "resnet10_narrow"])
def test_backbones_that_torchvision_has_not(backbone: str, tmp_path: Path) -> None:
    run = make_run(tmp_path, backbone, 32)
    with pytest.raises(UserError, match=backbone):
        export(run, "torchvision")
    assert export(run).is_file()


def test_unknown_format(run: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'timm'"):
        export(run, "tim")


@pytest.mark.parametrize("format", ["safetensors", "timm"])
def test_weights_come_with_what_they_are_used_with(run: Path, format: str, tmp_path: Path) -> None:
    """The metadata is that of the file which pretrain wrote."""
    with (
        safe_open(run / "backbone.safetensors", "pt") as written,
        safe_open(export(run, format, tmp_path / "weights"), "pt") as opened,
    ):
        assert opened.metadata() == written.metadata()
        assert json.loads(opened.metadata()["std"]) == list(load_run(run).evaluation_view().std)


def test_full_disk_keeps_the_file_that_is_there(run: Path, tmp_path: Path) -> None:
    file = export(run, out=tmp_path / "weights.safetensors")
    good = file.read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(
            TrainingError, match=r"cannot save .*weights\.safetensors \(.* MB\): .*another file with --out"
        ):
            export(run, out=file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert file.read_bytes() == good
    assert [entry.name for entry in tmp_path.iterdir()] == ["weights.safetensors"]


@pytest.mark.parametrize(("out", "kind"), [(".", "folder"), ("/", "folder"), ("/dev/null", "device")])
def test_what_is_no_file_is_left_alone(run: Path, out: str, kind: str) -> None:
    with pytest.raises(UserError, match=f"{out} is a {kind}; name a file with --out"):
        export(run, out=Path(out))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc, where no file can be made")
def test_a_place_without_files_is_named(run: Path) -> None:
    with pytest.raises(TrainingError, match=r"cannot save /proc/x\.safetensors .*another file with --out"):
        export(run, out=Path("/proc/x.safetensors"))


def test_file_that_cannot_be_written(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="--out"):
        export(run, out=tmp_path / "file" / "weights.safetensors")
