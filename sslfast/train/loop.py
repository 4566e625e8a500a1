"""The training loop."""

from __future__ import annotations

import itertools
import math
import shlex
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from torch import Tensor

from sslfast import __version__
from sslfast.data import ImageBatch, Loader
from sslfast.errors import TrainingError, UserError
from sslfast.methods import Method
from sslfast.models.backbone import explained_batch_norm
from sslfast.train.batch_norm import synchronise_batch_norm
from sslfast.train.checkpoint import (
    CHECKPOINT_FILE,
    last_good,
    load_checkpoint,
    load_weights,
    random_state,
    save_checkpoint,
    seed_everything,
    set_random_state,
)
from sslfast.train.config import TrainConfig
from sslfast.train.log import METRICS_FILE, Display, Metrics, Stopwatch, TensorBoard
from sslfast.train.optimizers import build_optimizer
from sslfast.train.schedules import Schedule
from sslfast.train.stop import Interrupted, StopSignals

# Reading a loss on the host waits for the device, agreeing on it waits for all ranks: both are done that rarely.
STEPS_BETWEEN_READS = 10

T = TypeVar("T")


@dataclass
class Position:
    """Where a run is, and what has come together in the epoch under way.

    Attributes:
        epoch: finished epochs.
        batch: finished batches of the epoch under way.
        step: finished optimiser steps of the run.
        sums, counts: of every scalar the steps of the epoch under way gave.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def means(self) -> dict[str, float]:
        """Mean of every scalar over the epoch."""
        return {name: self.sums[name] / self.counts[name] for name in self.sums}


class Loop:
    """Trains a method on a data set until its epochs or steps are done, and saves it on the way.

    Args:
        fabric: launched; knows device, precision and ranks.
        config: resolved.
        method: on the CPU.
        loader: of this rank's batches, on the device.
    """

    def __init__(self, fabric: Fabric, config: TrainConfig, method: Method, loader: Loader) -> None:
        self.fabric, self.config, self.method, self.loader = fabric, config, method, loader
        self.out = Path(config.out)
        self.position = Position()
        steps_per_epoch = math.ceil(len(loader) / config.accumulate)
        self.steps = config.epochs * steps_per_epoch
        self.last_step = min(config.max_steps or self.steps, self.steps)
        if config.channels_last:
            method.to(memory_format=torch.channels_last)  # type: ignore[call-overload, unused-ignore]
            method.multi_view.channels_last = True
        synchronise_batch_norm(method, fabric.device.type, fabric.world_size)
        if config.compile:
            method.compile()
        # One optimiser a player: both sides of an adversarial method step on the same backward pass.
        self.optimizers = [build_optimizer(config, parameters) for parameters in method.players().values()]
        self.schedules = [Schedule(config, optimizer, steps_per_epoch) for optimizer in self.optimizers]
        self.model, *self.wrapped_optimizers = fabric.setup(method, *self.optimizers)
        self.reads_rarely = fabric.device.type != "cpu" or fabric.world_size > 1
        self.pending: list[dict[str, Tensor]] = []
        self.stopwatch = Stopwatch(fabric.device)
        torch.backends.cudnn.benchmark = True  # every batch has the same shape
        seed_everything(config.seed + fabric.global_rank)

    def run(self) -> None:
        """Trains from the current position to the end.

        Raises:
            TrainingError: the loss is not finite, or the run cannot be saved.
            Interrupted: a signal stopped the run; it is saved.
        """
        step, first = self.position.step, self.fabric.global_rank == 0
        if first and step < self.last_step:
            print(self._greeting(), flush=True)
        self.metrics = Metrics(self.out / METRICS_FILE, self.position.epoch)
        self.board = rank_zero(self.fabric, lambda: TensorBoard(self.out, step))
        self.display = Display(self.config.epochs, self.last_step, step, on=first)
        try:
            with StopSignals() as signals:
                while self.position.step < self.last_step:
                    self._epoch(signals)
        finally:
            self.display.close()
            if self.board is not None:
                self.board.close()

    def _epoch(self, signals: StopSignals) -> None:
        """The rest of the epoch under way, as far as the run goes; an epoch whose batches are done ends before a stop.

        So a run goes on in the middle of an epoch or at the start of the next, and one that has reached its end ends.
        """
        position = self.position
        self.method.train()
        if position.batch == 0:
            self._before_epoch()
        self.started, self.images = time.perf_counter(), 0
        batches = self.loader.epoch(position.epoch, start=position.batch)
        complete, over, signum = position.batch == len(self.loader), False, 0
        while complete or not (over or signum):  # a complete epoch asks the loader on: it may end with a warning
            with self.stopwatch("data"):
                group = list(itertools.islice(batches, self.config.accumulate))
            if not group:
                break
            self.pending.append(self._step(group))
            if not self.reads_rarely or position.step % STEPS_BETWEEN_READS == 0:
                self._read_scalars()
            signum = self._agree(signals.received)
            complete, over = position.batch == len(self.loader), position.step == self.last_step
        self._read_scalars()
        if complete or over:
            self._end_epoch(complete)
        if over or signum or (complete and self.position.epoch % self.config.checkpoint_every == 0):
            self.save()
        if signum and not over:
            raise Interrupted(self._goodbye(signum), signum)

    def _step(self, group: list[ImageBatch]) -> dict[str, Tensor]:
        """One optimiser step on the mean gradient of the batches of `group`; returns the mean of their scalars."""
        position, scalars = self.position, dict[str, Tensor]()
        for number, batch in enumerate(group, start=1):
            with self.stopwatch("views"):
                views = self.method.views(batch, position.epoch)
            with self.fabric.no_backward_sync(self.model, enabled=number < len(group)):
                with self.stopwatch("forward"), explained_batch_norm():
                    output = self.model(views)
                if "loss" not in output:
                    raise UserError(
                        f"method {self.config.method!r} gave no 'loss' but {sorted(output)}; add it in forward"
                    )
                with self.stopwatch("backward"):
                    self.fabric.backward(output["loss"] / len(group))
            for name, value in output.items():
                part = torch.as_tensor(value, device=self.fabric.device).detach().float() / len(group)
                scalars[name] = scalars[name] + part if name in scalars else part
        with self.stopwatch("optimizer"):
            for optimizer in self.wrapped_optimizers:
                if self.config.clip_norm:
                    # What is not finite shows in the loss; a scaled gradient may overflow and be skipped.
                    self.fabric.clip_gradients(
                        self.model, optimizer, max_norm=self.config.clip_norm, error_if_nonfinite=False
                    )
                optimizer.step()
                optimizer.zero_grad()
            self.learning_rate = self.optimizers[0].param_groups[0]["lr"]
            for schedule in self.schedules:
                schedule.after_step()
            position.step += 1
            self.method.after_step(position.step, self.steps)
        position.batch += len(group)
        self.images += sum(len(batch) for batch in group) * self.fabric.world_size
        return scalars

    def _before_epoch(self) -> None:
        """Calls the method's hook, with features, where the method has one."""
        if type(self.method).before_epoch is Method.before_epoch:
            return
        from sslfast.evaluate.features import apply, evaluating  # not above: evaluation imports this room

        backbone = self.method.backbone
        with evaluating(backbone):
            view, device = self.method.evaluation_view, self.fabric.device
            features = torch.cat([apply(backbone, images, view, device) for images in self.loader.in_order()])
        self.method.before_epoch(features)

    def _read_scalars(self) -> None:
        """Brings the scalars of the last steps to the host, the mean over ranks, and looks at the losses."""
        if not self.pending:
            return
        position, steps, self.pending = self.position, self.pending, []
        flat = torch.stack([value for scalars in steps for value in scalars.values()])
        values = iter(self._reduce(flat, "mean").tolist())
        self.stopwatch.collect()
        for step, names in enumerate(steps, start=position.step - len(steps) + 1):
            scalars = {name: next(values) for name in names}
            if not math.isfinite(scalars["loss"]):
                raise TrainingError(
                    f"the loss is {scalars['loss']} at step {step} (epoch {position.epoch + 1}); "
                    f"{last_good(self.out)}; start another run with a lower learning_rate, or with clip_norm"
                )
            for name, value in scalars.items():
                position.sums[name] = position.sums.get(name, 0.0) + value
                position.counts[name] = position.counts.get(name, 0) + 1
            if self.board is not None:
                self.board.add(step, scalars)
        self.display.step(position.epoch + 1, position.step, scalars["loss"], self._speed())

    def _speed(self) -> float:
        """Images a second, over all ranks, since this epoch (or its rest) began."""
        return self.images / max(time.perf_counter() - self.started, 1e-9)

    def _end_epoch(self, complete: bool) -> None:
        """Writes the epoch's row of metrics; a complete epoch moves on."""
        position = self.position
        means = position.means()
        row = {
            "epoch": position.epoch + 1,
            "step": position.step,
            "loss": means.pop("loss"),
            "learning_rate": self.learning_rate,
            "images_per_second": round(self._speed(), 1),
            **means,
            **{name: round(share, 4) for name, share in self.stopwatch.shares().items()},
        }
        rank_zero(self.fabric, lambda: self._write(row))
        if complete:
            for schedule in self.schedules:
                schedule.after_epoch(row["loss"])
            self.position = Position(epoch=position.epoch + 1, step=position.step)

    def _write(self, row: dict[str, float]) -> None:
        self.metrics.append(row)
        if self.board is not None:
            self.board.add(int(row["step"]), {f"epoch/{name}": value for name, value in row.items() if name != "step"})
            self.board.check()
        seconds = (time.perf_counter() - self.started) / self.images * self.config.batch_size * self.config.accumulate
        self.display.epoch(int(row["epoch"]), row, seconds * (self.last_step - self.position.step))

    def _agree(self, received: int) -> int:
        """The signal to stop for after this step, the same on every rank; 0 goes on."""
        if self.fabric.world_size == 1:
            return received
        if self.position.step % STEPS_BETWEEN_READS:
            return 0
        return int(self._reduce(torch.tensor(received, device=self.fabric.device), "max"))

    def _reduce(self, values: Tensor, operation: str) -> Tensor:
        """`values` reduced over the ranks."""
        reduced = self.fabric.all_reduce(values, reduce_op=operation)
        assert isinstance(reduced, Tensor)
        return reduced

    def _greeting(self) -> str:
        config, count = self.config, sum(parameter.numel() for parameter in self.method.parameters())
        ranks = f" in {self.fabric.world_size} processes" if self.fabric.world_size > 1 else ""
        resumed = f"; goes on after step {self.position.step:,}" if self.position.step else ""
        where = f"{self.fabric.device.type}{ranks}"
        return (
            f"{config.method} with {config.backbone} ({count / 1e6:.1f} M parameters) on {where}: "
            f"{self.loader.count:,} images, batch size {config.batch_size:,}, {self.last_step:,} steps{resumed}"
        )

    def _goodbye(self, signum: int) -> str:
        command = f"sslfast pretrain --resume --out {shlex.quote(str(self.out))}"
        return (
            f"stopped by {signal.Signals(signum).name} at step {self.position.step} of {self.steps}; "
            f"saved {self.out / CHECKPOINT_FILE}; continue with: {command}"
        )

    def save(self) -> None:
        """Saves everything the run continues from.

        Raises:
            TrainingError: the checkpoint cannot be written; the one before stays.
        """
        randoms: list[Any] = [random_state(self.fabric.device)]
        if self.fabric.world_size > 1:
            randoms = [None] * self.fabric.world_size
            torch.distributed.all_gather_object(randoms, random_state(self.fabric.device))
        state = {
            "sslfast": __version__,
            "config": asdict(self.config),
            "in_channels": self.loader.channels,
            "images": self.loader.count,
            "position": asdict(self.position),
            "method": self.method.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "schedules": [schedule.state_dict() for schedule in self.schedules],
            "precision": self.fabric.strategy.precision.state_dict(),
            "random": randoms,
        }
        rank_zero(self.fabric, lambda: save_checkpoint(self.out / CHECKPOINT_FILE, state))

    def load(self) -> None:
        """Continues from the checkpoint of the run folder.

        Raises:
            UserError: it is damaged, or of another method or data set.
        """
        path = self.out / CHECKPOINT_FILE
        state = load_checkpoint(path, asdict(self.config))
        if state["images"] != self.loader.count:
            raise UserError(
                f"{path} was made with {state['images']} images and the data set has {self.loader.count} now; "
                "give it the same data, or start another run with another --out"
            )
        load_weights(self.method, state, path)
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for schedule, saved in zip(self.schedules, state["schedules"], strict=True):
            schedule.load_state_dict(saved)
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.position = Position(**state["position"])
        if len(state["random"]) == self.fabric.world_size:
            set_random_state(state["random"][self.fabric.global_rank], self.fabric.device)
        else:  # on another number of ranks no stream can go on; a fresh one must not repeat the first epochs
            seed_everything(self.config.seed + self.position.step * self.fabric.world_size + self.fabric.global_rank)


def rank_zero(fabric: Fabric, function: Callable[[], T]) -> T | None:
    """What `function` returns on the first rank, None on the others; its UserError is raised on all of them."""
    result, failure = None, None
    if fabric.global_rank == 0:
        try:
            result = function()
        except UserError as error:
            failure = error
    failure = fabric.broadcast(failure)
    if failure is not None:
        raise failure
    return result
