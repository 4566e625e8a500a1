#!/usr/bin/env bash
# Builds sslfast on a GPU server, runs the CUDA tests, the benchmarks and a short training, in under ten minutes, and
# leaves everything in one folder. A step that fails, or that has no time left, is named at the end; the others run.
#
#   benchmarks/server/prove.sh [FOLDER]
#
# Needs torch with CUDA, nvcc, and what CONTRIBUTING.md installs before the build. Peers that are not installed are left
# out of the tables: pip install '.[compare,compare-cuda13]'. The sanitizer's step needs compute-sanitizer on the PATH.
set -uo pipefail
cd "$(dirname "$0")/../.."
out=$(mkdir -p "${1:-gpu-results}" && cd "${1:-gpu-results}" && pwd)
failed=()
deadline=585

step() {
  local name=$1 limit=$2 begin=$SECONDS left=$((deadline - SECONDS))
  shift 2
  echo "== $name"
  if [ "$left" -lt 5 ]; then
    failed+=("$name")
    echo "   left out: no time"
    return
  fi
  # An interrupt first: pytest then says what failed so far, and a benchmark draws what it has.
  if timeout --signal=INT --kill-after=5 "$((left < limit ? left : limit))" "$@" >"$out/$name.log" 2>&1; then
    echo "   $((SECONDS - begin)) s"
  else
    failed+=("$name")
    echo "   failed after $((SECONDS - begin)) s; the end of $out/$name.log:"
    tail -n 15 "$out/$name.log"
  fi
}

export SSLFAST_REQUIRE_CUDA=1

# Editable: commands and tests run from the checkout, whose own folder would hide an installed package.
step build 180 python3 -m pip install --no-build-isolation --no-deps -e .
step info 20 python3 -m sslfast info
step machine 10 nvidia-smi
step tests 120 python3 -m pytest -q -m cuda --ignore=tests/cuda/test_sanitizer.py
step bench-ops 150 python3 -m sslfast bench ops --device cuda --seconds 0.2 --out "$out/ops.json"
# The kernels of NT-Xent that only Hopper has.
export SSLFAST_NT_XENT_HOPPER=1
step tests-hopper 40 python3 -m pytest -q -m cuda tests/cuda -k nt_xent --ignore=tests/cuda/test_sanitizer.py
step bench-hopper 60 python3 -m sslfast bench ops --device cuda --only nt_xent --against lightly --seconds 0.2 \
  --out "$out/ops-hopper.json"
unset SSLFAST_NT_XENT_HOPPER
step pretrain 40 python3 -m sslfast pretrain --method simclr --data shapes --limit 20000 --backbone resnet18 \
  --epochs 5 --batch-size 512 --optimizer sgd --learning-rate 0.24 --device cuda --out "$out/run" --overwrite
step evaluate 30 python3 -m sslfast evaluate "$out/run" --protocols knn,linear --limit-train 10000 --limit-test 2000
step report 15 python3 -m sslfast report "$out/run"
step bench-train 50 python3 -m sslfast bench train --device cuda --only simclr --seconds 2 --out "$out/train.json"
# Again, because a benchmark that is killed has drawn nothing.
step pages 15 python3 -m benchmarks.page "$out"/*.json
if command -v compute-sanitizer >/dev/null; then
  step sanitizer 90 python3 -m pytest -q -m cuda tests/cuda/test_sanitizer.py \
    -k "nt_xent_backward-memcheck or nt_xent_backward-racecheck or augment-memcheck or augment-racecheck"
else
  echo "== sanitizer: left out, compute-sanitizer is not on the PATH"
fi

echo "$SECONDS s in all; results in $out"
if [ ${#failed[@]} -gt 0 ]; then
  echo "failed: ${failed[*]}"
  exit 1
fi
