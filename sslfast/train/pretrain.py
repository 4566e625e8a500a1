"""Pretraining: from a configuration to a run folder."""

from __future__ import annotations

import fcntl
import gc
import os
import shutil
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from lightning_fabric.plugins.environments import SLURMEnvironment
from torch.multiprocessing import ProcessExitedException

from sslfast import registry
from sslfast.data import DaliLoader, ImageBatch, Loader, MemoryLoader
from sslfast.errors import DataError, TrainingError, UserError
from sslfast.methods import Method
from sslfast.train.checkpoint import CHECKPOINT_FILE, last_good, write_atomically
from sslfast.train.config import CONFIG_FILE, TrainConfig, find_device, read_config, resolve, write_config
from sslfast.train.log import METRICS_FILE, TENSORBOARD_FOLDER
from sslfast.train.loop import Loop, rank_zero
from sslfast.train.run import BACKBONE_FILE, PICTURES_FOLDER, build_method, find_source, write_backbone, write_pictures
from sslfast.train.stop import StopSignals

# What --overwrite removes, and nothing else that may lie in the folder: what pretrain and the later commands make.
RUN_FILES = (
    CONFIG_FILE,
    METRICS_FILE,
    CHECKPOINT_FILE,
    BACKBONE_FILE,
    TENSORBOARD_FOLDER,
    PICTURES_FOLDER,
    "results.json",
    "report.html",
    "backbone.timm.safetensors",
    "backbone.torchvision.safetensors",
    "backbone.onnx",
)


def pretrain(config: TrainConfig, resume: bool = False, overwrite: bool = False) -> Path:
    """Pretrains a method and leaves a run folder.

    The folder holds config.yaml, metrics.csv (a row an epoch), tb/ (TensorBoard), last.ckpt, backbone.safetensors and
    pictures/. SIGTERM or SIGINT ends the run after the step under way, with a checkpoint. Under torchrun or SLURM every
    process calls this; without them `config.devices` processes are started here, which needs the usual
    `if __name__ == "__main__":` in a script.

    Args:
        config: what is left out comes from the method's recipe, then from the defaults.
        resume: continue the run in the folder `out` from its last checkpoint, exactly, also in the middle of an epoch;
            its own configuration holds, so that nothing else need be given.
        overwrite: remove the run that is in the folder `out`.

    Returns:
        The run folder.

    Raises:
        UserError: a wrong name, option or combination; a folder that already holds a run.
        DataError: the data is missing or damaged.
        TrainingError: the loss is not finite, or the run cannot be saved; `Interrupted`, a signal stopped it.
    """
    if resume and overwrite:
        raise UserError("--resume and --overwrite exclude each other; choose to continue the run or to start anew")
    if resume and config.out is None and config.method is None:
        raise UserError("no run folder given; name the run to resume with --out")
    if not resume:
        config = resolve(config)
    elif config.out is None:
        config = replace(config, out=f"runs/{config.method.replace(':', '.')}")
    out = Path(config.out)
    if resume:
        config = resolve(config, saved=read_config(out / CONFIG_FILE))
    elif not overwrite and _is_first_process() and _holds_run(out):
        raise UserError(
            f"{out} already holds a run; continue it with --resume, replace it with --overwrite, or give another --out"
        )
    leave = not torch.distributed.is_initialized()  # a process group of the caller's stays
    fabric, starts_ranks = _fabric(config)
    try:
        # Ranks that are started here handle signals themselves; this process passes them on.
        with StopSignals() if starts_ranks else nullcontext():
            failure = fabric.launch(partial(_rank, config=config, resume=resume, leave=leave))
    except ProcessExitedException as error:
        raise TrainingError(f"a rank ended without a message ({error}); {last_good(out)}") from error
    if failure is not None:
        raise failure
    return out


class _Autocast(MixedPrecision):
    """Mixed precision that leaves the method's input as it is: labels such as angles have no place in 16 bits."""

    def convert_input(self, data: Any) -> Any:
        return data


def _fabric(config: TrainConfig) -> tuple[Fabric, bool]:
    """Fabric for the devices of `config`, or of torchrun or SLURM; and whether it starts processes of its own."""
    kind, devices, nodes = find_device(config.device), config.devices, config.nodes
    environment = os.environ
    launched = 1
    if torch.distributed.is_torchelastic_launched():
        launched, local = int(environment["WORLD_SIZE"]), int(environment["LOCAL_WORLD_SIZE"])
        devices, nodes = local, launched // local
    elif SLURMEnvironment.detect():
        launched, nodes = int(environment["SLURM_NTASKS"]), int(environment.get("SLURM_NNODES", 1))
        devices = launched // nodes
    world_size = devices * nodes
    if nodes > 1 and launched == 1:
        raise UserError(f"nodes is {nodes}; start the command on every node with torchrun or srun")
    if kind == "cuda" and devices > torch.cuda.device_count():
        raise UserError(f"devices is {devices} and this machine has {torch.cuda.device_count()} GPUs; ask for fewer")
    if config.batch_size % world_size:
        raise UserError(f"batch_size {config.batch_size} cannot be split over {world_size} devices; make it a multiple")
    least = registry.resolve("methods", config.method).least_batch
    if config.batch_size // world_size < least:
        raise UserError(
            f"batch_size is {config.batch_size} on {world_size} devices, and {config.method!r} needs {least} images or "
            f"more on each; set --batch-size to at least {least * world_size}"
        )
    mixed = None if config.precision == "32-true" else _Autocast(config.precision, kind)
    fabric = Fabric(
        accelerator=kind,
        devices=devices,
        num_nodes=nodes,
        strategy="auto" if world_size == 1 else "ddp" if launched > 1 else "ddp_spawn",
        precision=None if mixed else "32-true",
        plugins=mixed,
    )
    return fabric, launched == 1 and world_size > 1


def _rank(fabric: Fabric, config: TrainConfig, resume: bool, leave: bool) -> UserError | None:
    """One rank's part of the run; `leave` says whether to close the process group at the end.

    What went wrong is returned, since the exception of a process that was started here would lose its type.
    """
    failure = _train(fabric, config, resume)
    if leave and torch.distributed.is_initialized():
        # The group's threads must not outlive the interpreter, and it deadlocks when the wrapped model is the last to
        # hold it: the model, which a traceback keeps, goes first.
        if failure is not None:
            failure.__cause__ = failure.__context__ = failure.__traceback__ = None
        gc.collect()
        torch.distributed.destroy_process_group()
    return failure


def _train(fabric: Fabric, config: TrainConfig, resume: bool) -> UserError | None:
    """Reads, builds, trains and exports."""
    out = Path(config.out)
    try:
        loader = _loader(fabric, config)
        method = build_method(config, loader.channels)
        if isinstance(loader, DaliLoader):
            loader.regions = method.regions
        loop = Loop(fabric, config, method, loader)
        if resume and (out / CHECKPOINT_FILE).exists():
            loop.load()
        claim = rank_zero(fabric, lambda: _prepare_folder(config, resume))  # for as long as this rank trains
        try:
            loop.run()
            rank_zero(fabric, lambda: _export(method, config, next(loader.in_order())))
        except DataError as error:
            if fabric.world_size > 1:
                raise RuntimeError(str(error)) from error  # a file of this rank's: the others wait, and must end
            raise
        finally:
            if claim is not None:
                os.close(claim)
    except torch.OutOfMemoryError as error:
        if fabric.world_size > 1:
            raise  # the other ranks wait for this one, which must end
        return TrainingError(f"the GPU's memory is full: {error}; lower batch_size, or split it by accumulate")
    except UserError as error:
        return error
    return None


def _loader(fabric: Fabric, config: TrainConfig) -> Loader:
    """The loader of this rank's batches."""

    def make() -> Loader:
        options: dict[str, Any] = {
            "batch_size": config.batch_size // fabric.world_size,
            "seed": config.seed,
            "device": fabric.device,
            "rank": fabric.global_rank,
            "world_size": fabric.world_size,
        }
        source = find_source(config, config.split, config.limit)
        return DaliLoader(source, **options) if config.loader == "dali" else MemoryLoader(source.read(), **options)

    # The first rank alone downloads or finds the faults; the others read what is there then.
    loader = rank_zero(fabric, make)
    return make() if loader is None else loader


def _claim(out: Path) -> int:
    """The run folder, open and locked until it is closed: of two processes that write into it neither is right.

    The folder and not a file of it, because files are replaced: who waited for the old one would not meet the new.

    Raises:
        UserError: another process has it.
        OSError: there is no such folder.
    """
    folder = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(folder)
        raise UserError(f"another process is training in {out}; wait for it, or give another --out") from error
    except OSError:  # a network's file system that knows no locks
        pass
    return folder


def _prepare_folder(config: TrainConfig, resume: bool) -> int:
    """Makes the run folder with its config.yaml; a run that is replaced is removed, now that the new one can start.

    Returns:
        The claim on the folder.
    """
    out = Path(config.out)
    with ExitStack() as failed:
        try:
            out.mkdir(parents=True, exist_ok=True)
            claim = _claim(out)
            failed.callback(os.close, claim)
            for name in RUN_FILES if _holds_run(out) and not resume else ():
                if (out / name).is_dir():
                    shutil.rmtree(out / name)
                else:
                    (out / name).unlink(missing_ok=True)
        except OSError as error:
            raise TrainingError(
                f"cannot make the run folder {out}: {error.strerror or error}; give another --out"
            ) from error
        write_atomically(out / CONFIG_FILE, write_config(config).encode())
        failed.pop_all()
    return claim


def _export(method: Method, config: TrainConfig, images: ImageBatch) -> None:
    write_backbone(method, config, Path(config.out) / BACKBONE_FILE)
    write_pictures(method, images, Path(config.out))


def _is_first_process() -> bool:
    return os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0"


def _holds_run(out: Path) -> bool:
    return (out / CONFIG_FILE).exists() or (out / CHECKPOINT_FILE).exists()
