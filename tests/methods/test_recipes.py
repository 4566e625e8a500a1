"""The papers' numbers: what every recipe file trains with, written as the papers write it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from sslfast import registry
from sslfast.train import TrainConfig, resolve

FOLDER = Path(registry.__file__).parent / "recipes"
IMAGENET = 1_281_167  # training images


class Published(NamedTuple):
    """What a source says of a run."""

    optimizer: str
    learning_rate: float
    weight_decay: float
    batch_size: int
    epochs: int
    schedule: str
    warmup_epochs: float = 0.0
    momentum: float = 0.9  # Adam's runs have the default, which it does not use
    milestones: tuple[int, ...] = ()


PUBLISHED = {
    # Chen et al. 2020, appendix B.9: learning rate 1.0 x batch / 256; weight decay of section 2.2; batch of the code.
    "simclr-cifar10": Published("lars", 1.0 * 512 / 256, 1e-6, 512, 1000, "cosine", 10),
    # The authors' CIFAR-10 notebook of He et al. 2020.
    "moco-cifar10": Published("sgd", 0.06, 5e-4, 512, 200, "cosine"),
    # He et al. 2020, section 4 (IN-1M): divided by 10 at 120 and 160 of 200 epochs.
    "moco-v1-imagenet": Published("sgd", 0.03, 1e-4, 256, 200, "step", milestones=(120, 160)),
    # Chen, Fan et al. 2020, table 1: the same with a cosine, 200 epochs.
    "moco-imagenet": Published("sgd", 0.03, 1e-4, 256, 200, "cosine"),
    # Grill et al. 2020, section 3.3: 0.2 x batch / 256; with a batch of 512 for the paper's 4096.
    "byol-cifar10": Published("lars", 0.2 * 512 / 256, 1.5e-6, 512, 1000, "cosine", 10),
    # Chen and He 2021, appendix D: 0.03 x batch / 256, 800 epochs.
    "simsiam-cifar10": Published("sgd", 0.03 * 512 / 256, 5e-4, 512, 800, "cosine"),
    # Chen and He 2021, section 3: 0.05 x batch / 256, 100 epochs.
    "simsiam-imagenet": Published("sgd", 0.05 * 512 / 256, 1e-4, 512, 100, "cosine"),
    # The authors' code of Khosla et al. 2020, its CIFAR-10 command, warm-up for batches above 256.
    "supcon-cifar10": Published("sgd", 0.5, 1e-4, 1024, 1000, "cosine", 10),
    # Dwibedi et al. 2021, section 4.1: 0.3 x batch / 256; with a batch of 512 for the paper's 4096.
    "nnclr-cifar10": Published("lars", 0.3 * 512 / 256, 1e-6, 512, 1000, "cosine", 10),
    # Gidaris et al. 2018, section 4.1; a cosine for the paper's steps.
    "rotation-cifar10": Published("sgd", 0.1, 5e-4, 128, 100, "cosine"),
    # Noroozi and Favaro 2016, section 4: 350,000 steps of 256 images of ImageNet; a cosine, AlexNet's weight decay.
    "jigsaw-cifar10": Published("sgd", 0.01, 5e-4, 256, round(350_000 * 256 / IMAGENET), "cosine"),
    # MMSelfSup's recipe for Doersch et al. 2015: 8 GPUs of 64 images, 70 epochs; a cosine for its steps.
    "relative-position-cifar10": Published("sgd", 0.2, 1e-4, 8 * 64, 70, "cosine", 5),
    # van den Oord et al. 2018, section 3.2: 32 GPUs of 16 images; the epochs are the run's default.
    "cpc-cifar10": Published("adam", 2e-4, 0.0, 32 * 16, 200, "constant"),
    # Zhang et al. 2016, section 3.1: 450,000 steps of 40 images of ImageNet; lowered where the loss stays.
    "colorization-224px": Published("adam", 3e-5, 1e-3, 40, round(450_000 * 40 / IMAGENET), "plateau"),
    # The student report on split-brain autoencoders: divided by 10 after each of 11 epochs; it names no optimiser.
    "split-brain-96px": Published("adam", 1e-4, 0.0, 64, 11, "exponential"),
    # The student report on denoising autoencoders, for both.
    "autoencoder-cifar10": Published("adam", 2e-4, 0.0, 64, 100, "plateau"),
    "denoising-autoencoder-cifar10": Published("adam", 2e-4, 0.0, 64, 100, "plateau"),
}


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.yaml")))
def test_a_recipe_file_trains_with_the_published_numbers(name: str) -> None:
    config = resolve(TrainConfig(**yaml.safe_load((FOLDER / f"{name}.yaml").read_text())))
    values = {field: getattr(config, field) for field in Published._fields}
    values["milestones"] = tuple(config.milestones)
    assert values == {
        field: pytest.approx(value) if isinstance(value, float) else value
        for field, value in PUBLISHED[name]._asdict().items()
    }
