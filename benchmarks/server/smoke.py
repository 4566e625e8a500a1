"""Two steps of every method as a user trains it, compiled and not: which of them this machine cannot do.

    python -m benchmarks.server.smoke [--methods simclr,moco,…] [--device cuda] [--out FOLDER]

On a GPU that is bfloat16, channels_last and torch.compile. Each method has a process of its own, so that a fault of one
leaves the others alone. `smoke.json` in the folder has a row a method and way; the exit code is 1 where one failed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sslfast.registry import METHODS
from sslfast.train import TrainConfig, pretrain

ROOT = Path(__file__).parent.parent.parent
BATCH = 32
STEPS = 2
ERROR_LINES = 12


def train(method: str, compiled: bool, device: str, out: Path) -> None:
    """Two steps on the embedded pictures."""
    config = TrainConfig(
        method=method,
        data="shapes",
        limit=STEPS * BATCH,
        backbone="resnet10_narrow",
        epochs=1,
        batch_size=BATCH,
        max_steps=STEPS,
        compile=compiled,
        device=device,
        out=str(out),
    )
    pretrain(config, overwrite=True)


def row_of(method: str, compiled: bool, device: str, out: Path, seconds: float) -> dict[str, Any]:
    """Trains in a process of its own; `error` is the end of what it said, or None."""
    own = out.resolve() / f"{method}-{'compiled' if compiled else 'plain'}"
    command = [sys.executable, "-m", "benchmarks.server.smoke", "--one", "--methods", method, "--device", device]
    command += ["--out", str(own), *(["--compile"] if compiled else [])]
    begin = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, cwd=ROOT)
        error = None if done.returncode == 0 else "\n".join((done.stdout + done.stderr).splitlines()[-ERROR_LINES:])
    except subprocess.TimeoutExpired:
        error = f"no end after {seconds:.0f} s"
    taken = time.perf_counter() - begin
    print(f"{method}, {'compiled' if compiled else 'plain'}: {error or f'{taken:.0f} s'}", flush=True)
    return {"method": method, "compiled": compiled, "seconds": taken, "error": error}


def smoke(methods: list[str], ways: list[bool], device: str, out: Path, seconds: float, workers: int) -> Path:
    """All methods plain, then all of them compiled, some at a time; returns `smoke.json`, complete after every row."""
    out.mkdir(parents=True, exist_ok=True)
    file = out / "smoke.json"
    rows: list[dict[str, Any]] = []
    with ThreadPoolExecutor(workers) as pool:
        tried = [pool.submit(row_of, method, way, device, out, seconds) for way in ways for method in methods]
        for one in tried:
            rows.append(one.result())
            file.write_text(json.dumps(rows, indent=1) + "\n")
    return file


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="two steps of every method, compiled and not")
    parser.add_argument("--methods", default=",".join(METHODS), help="comma-separated; all")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--out", type=Path, default=Path("runs/smoke"))
    parser.add_argument("--seconds", type=float, default=100, help="of one training, at most; 100")
    parser.add_argument("--workers", type=int, default=5, help="trainings at a time; 5")
    parser.add_argument("--one", action="store_true", help="train one method in this process")
    parser.add_argument("--compile", action="store_true", help="with --one: compiled")
    given = parser.parse_args()
    methods = given.methods.split(",")
    if given.one:
        return train(methods[0], given.compile, given.device, given.out)
    file = smoke(methods, [False, True], given.device, given.out, given.seconds, given.workers)
    failed = [row for row in json.loads(file.read_text()) if row["error"] is not None]
    print(f"{len(failed)} failed; {file}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
