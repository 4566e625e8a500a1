#!/usr/bin/env bash
# Builds sslfast on a GPU server, runs the CUDA tests, a step of every method, the sanitizer, the benchmarks and a short
# training, the most telling first, in under ten minutes, and leaves everything in one folder. A step that fails, or
# that has no time left, is named at the end; the others run.
#
#   benchmarks/server/prove.sh [FOLDER [STEP…]]     all steps, or those alone: what the first ten minutes left out
#
# Needs torch with CUDA, nvcc, and what CONTRIBUTING.md installs before the build; the first step says what is missing.
# Peers that are not installed are left out of the tables: pip install '.[compare,compare-cuda13]'. The sanitizer's
# step needs compute-sanitizer on the PATH.
set -uo pipefail
cd "$(dirname "$0")/../.."
out=$(mkdir -p "${1:-gpu-results}" && cd "${1:-gpu-results}" && pwd)
wanted=" ${*:2} "
failed=()
deadline=585

step() {
  local name=$1 limit=$2 begin=$SECONDS left=$((deadline - SECONDS))
  shift 2
  if [ -n "${wanted// /}" ] && [[ $wanted != *" $name "* ]]; then return; fi
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
# Warnings of other versions than the developers' are no faults of the kernels. Only files with such tests are read:
# another one may need a package that this machine lacks.
tests=(python3 -m pytest -q -W default -m cuda)
mapfile -t files < <(grep -rl --include='test_*.py' 'mark\.cuda' tests | grep -v -e sanitizer -e hopper -e equals_chip)

step packages 20 python3 -m benchmarks.server.packages
# Editable: commands and tests run from the checkout, whose own folder would hide an installed package.
step build 240 python3 -m pip install --no-build-isolation --no-deps -e .
step info 20 python3 -m sslfast info
step machine 10 nvidia-smi
step tests 150 "${tests[@]}" "${files[@]}"
# The kernels of NT-Xent that only Hopper has.
step tests-hopper 60 env SSLFAST_NT_XENT_HOPPER=1 "${tests[@]}" -k "nt_xent or they_run" \
  tests/cuda/test_nt_xent_hopper.py tests/cuda/test_nt_xent.py tests/cuda/test_contracts.py tests/cuda/test_streams.py \
  --deselect tests/cuda/test_nt_xent_hopper.py::test_parity
# One instruction at a time, against the test bench and outside tables.
step tests-instructions 120 "${tests[@]}" tests/cuda/test_bench_equals_chip.py
step methods 150 python3 -m benchmarks.server.smoke --device cuda --out "$out/methods"
if command -v compute-sanitizer >/dev/null; then
  step sanitizer 60 python3 -m pytest -q -W default -m cuda tests/cuda/test_sanitizer.py \
    -k "nt_xent_backward-memcheck or nt_xent_backward-racecheck or augment-memcheck or augment-racecheck"
else
  echo "== sanitizer: left out, compute-sanitizer is not on the PATH"
fi
step bench-ops 150 python3 -m sslfast bench ops --device cuda --seconds 0.2 --out "$out/ops.json"
step bench-hopper 60 env SSLFAST_NT_XENT_HOPPER=1 python3 -m sslfast bench ops --device cuda --only nt_xent \
  --against lightly --seconds 0.2 --out "$out/ops-hopper.json"
step pretrain 40 python3 -m sslfast pretrain --method simclr --data shapes --limit 20000 --backbone resnet18 \
  --epochs 5 --batch-size 512 --optimizer sgd --learning-rate 0.24 --device cuda --out "$out/run" --overwrite
step evaluate 30 python3 -m sslfast evaluate "$out/run" --protocols knn,linear --limit-train 10000 --limit-test 2000
step report 15 python3 -m sslfast report "$out/run"
step bench-train 50 python3 -m sslfast bench train --device cuda --only simclr --seconds 2 --out "$out/train.json"
# Again, because a benchmark that is killed has drawn nothing.
step pages 15 python3 -m benchmarks.page "$out"/*.json

echo "$SECONDS s in all; results in $out"
if [ ${#failed[@]} -gt 0 ]; then
  echo "failed: ${failed[*]}"
  exit 1
fi
