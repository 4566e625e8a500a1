"""Pretraining: one loop, its optimisers and schedules, checkpoints and run folders.

from sslfast.train import TrainConfig, load_run, pretrain

run = pretrain(TrainConfig(method="simclr", data="cifar10", root="~/data", epochs=200, out="runs/simclr"))
backbone = load_run(run).backbone()
"""

from sslfast.train.config import TrainConfig, resolve
from sslfast.train.pretrain import pretrain
from sslfast.train.run import Run, load_run
from sslfast.train.stop import Interrupted

__all__ = ["Interrupted", "Run", "TrainConfig", "load_run", "pretrain", "resolve"]
