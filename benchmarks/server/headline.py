"""The headline: ResNet-18 on CIFAR-10, batch 512, 200 epochs, method by method; time and kNN accuracy together.

    python -m benchmarks.server.headline --root DIR [--methods simclr,moco,…] [--out FOLDER]

The data set lies in the GPU's memory; bfloat16, channels_last, compiled. The optimiser is the same for all methods: SGD
with learning rate 0.06 x batch / 128, momentum 0.9, weight decay 5e-4 and a cosine, which are the settings of lightly's
CIFAR-10 benchmark, whose SimCLR reaches 84.8 % in 87 minutes on an A6000. The seconds count from an idle machine to the
last step, compilation and reading of the data included; the accuracy is the weighted kNN (200 neighbours, temperature
0.1) of all training images on all test images.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks import machine
from sslfast.evaluate import evaluate
from sslfast.train import TrainConfig, pretrain
from sslfast.train.config import find_device

METHODS = ("simclr", "moco", "byol", "simsiam", "supcon")
BATCH = 512
OPTIONS: dict[str, dict[str, Any]] = {"simclr": {"temperature": 0.5}}


def headline(root: str, methods: list[str], out: Path, epochs: int, backbone: str, limit: int, device: str) -> Path:
    """Trains and measures each method; `headline.json` in `out` is complete after every one of them."""
    out.mkdir(parents=True, exist_ok=True)
    kind = find_device(device)
    facts = machine.describe(kind, torch.get_num_threads())
    rows: list[dict[str, Any]] = []
    for method in methods:
        config = TrainConfig(
            method=method,
            method_options=OPTIONS.get(method, {}),
            data="cifar10",
            root=root,
            limit=limit,
            backbone=backbone,
            epochs=epochs,
            batch_size=BATCH,
            optimizer="sgd",
            learning_rate=0.06 * BATCH / 128,
            momentum=0.9,
            weight_decay=5e-4,
            schedule="cosine",
            warmup_epochs=0,
            compile=kind == "cuda",
            device=device,
            checkpoint_every=max(1, epochs // 10),
            out=str(out / method),
        )
        begin = time.perf_counter()
        run = pretrain(config, overwrite=True)
        machine.synchronise(kind)
        seconds = time.perf_counter() - begin
        (row,) = evaluate(run, protocols=("knn",), baselines=False, limit_train=limit, limit_test=limit, device=device)
        rows.append(
            {
                "method": method,
                "backbone": backbone,
                "epochs": epochs,
                "batch": BATCH,
                "images": row["train_images"],
                "seconds": seconds,
                "knn_top1": row["top1"],
            }
        )
        print(f"{method}: {epochs} epochs in {seconds:.0f} s, kNN {row['top1']:.2f} %", flush=True)
        result = {"machine": facts, "torch": torch.__version__, "rows": rows}
        (out / "headline.json").write_text(json.dumps(result, indent=1) + "\n")
    return out / "headline.json"


def main() -> None:
    """The command line; the sizes can be made smaller to try it."""
    parser = argparse.ArgumentParser(description="SSL methods on CIFAR-10: time and kNN accuracy together")
    parser.add_argument("--root", required=True, help="folder of CIFAR-10")
    parser.add_argument("--methods", default="simclr", help=f"comma-separated, of {', '.join(METHODS)}; or all")
    parser.add_argument("--out", type=Path, default=Path("runs/headline"))
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--limit", type=int, default=0, help="first so many images only; 0, all")
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    methods = list(METHODS) if given.methods == "all" else given.methods.split(",")
    if unknown := set(methods) - set(METHODS):
        parser.error(f"unknown method {', '.join(sorted(unknown))}; give some of {', '.join(METHODS)}, or all")
    print(headline(given.root, methods, given.out, given.epochs, given.backbone, given.limit, given.device))


if __name__ == "__main__":
    main()
