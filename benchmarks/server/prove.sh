#!/usr/bin/env bash
# Builds sslfast on a GPU server, runs the CUDA tests, the benchmarks and a short training, in under ten minutes, and
# leaves everything in one folder. A step that fails is named at the end; the others still run.
#
#   benchmarks/server/prove.sh [FOLDER]        needs torch with CUDA, nvcc, and the packages of '.[test]'
set -uo pipefail
cd "$(dirname "$0")/../.."
out=$(mkdir -p "${1:-gpu-results}" && cd "${1:-gpu-results}" && pwd)
failed=()

step() {
  local name=$1 limit=$2 begin=$SECONDS
  shift 2
  echo "== $name"
  if timeout "$limit" "$@" >"$out/$name.log" 2>&1; then
    echo "   $((SECONDS - begin)) s"
  else
    failed+=("$name")
    echo "   failed after $((SECONDS - begin)) s; the end of $out/$name.log:"
    tail -n 15 "$out/$name.log"
  fi
}

step build 240 python3 -m pip install --no-build-isolation --no-deps .
step info 30 python3 -m sslfast info
step machine 30 nvidia-smi
step tests 180 env SSLFAST_REQUIRE_CUDA=1 python3 -m pytest -q -m cuda
step bench-ops 120 python3 -m sslfast bench ops --device cuda --seconds 1 --out "$out/ops.json"
step bench-train 90 python3 -m sslfast bench train --device cuda --only simclr --seconds 3 --out "$out/train.json"
step pretrain 60 python3 -m sslfast pretrain --method simclr --data shapes --limit 20000 --backbone resnet18 \
  --epochs 5 --batch-size 512 --optimizer sgd --learning-rate 0.24 --device cuda --out "$out/run" --overwrite
step evaluate 60 python3 -m sslfast evaluate "$out/run" --protocols knn,linear --limit-train 10000 --limit-test 2000
step report 30 python3 -m sslfast report "$out/run"

echo "$SECONDS s in all; results in $out"
if [ ${#failed[@]} -gt 0 ]; then
  echo "failed: ${failed[*]}"
  exit 1
fi
