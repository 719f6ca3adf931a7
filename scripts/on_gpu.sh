#!/usr/bin/env bash
# on_gpu.sh [DIR]: what a large GPU does with this package, in less than four minutes: a handful of tests on it, then
# figures (scripts/benchmarks/gpu_figures.py), the tests beside the first of them. Results go to DIR, default $OUT: tests.txt, figures.md, log.txt.
# Packages that are missing there are taken from the folder .whl, if it is there. SECONDS_IN_ALL, TEST_SECONDS and
# PARTS (names of parts) change what is done; TINY=1 tries all of it on two CPU cores.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-${OUT:?name a folder for the results}}
mkdir -p "$out"
out=$(cd "$out" && pwd)
python=${PYTHON:-python3}
tiny=${TINY:-}
in_all=${SECONDS_IN_ALL:-200} test_seconds=${TEST_SECONDS:-90}
[[ $tiny ]] && in_all=3600 test_seconds=1200
source scripts/gpu_packages.sh

# The CPU beside the GPU: tests compare the two, and what is not measured is prepared there.
if [[ $tiny ]]; then
  export JAX_PLATFORMS=cpu
else
  export JAX_PLATFORMS=cuda,cpu XLA_PYTHON_CLIENT_PREALLOCATE=false
  export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 # parts prepare with the same small programs
  nvidia-smi --query-gpu=name,memory.total,clocks.sm --format=csv,noheader 2>/dev/null
fi

# Products are what users get, TF32: tests/on_gpu names what that may cost. The others hold to what they hold to on a CPU:
# exact triangles, a solver at full precision, fitted heads that come back. Empty flags in place of the tests' own, which
# are for CPUs (tests/xla_flags.py).
tests() {
  XLA_FLAGS="" "$python" -m pytest -v -s -m "slow or not slow" -p no:cacheprovider --no-header --durations=5 \
    tests/on_gpu \
    tests/n2f_jax/render/test_rasterizer.py::test_random_triangles \
    tests/n2f_jax/fitting/test_gauss_newton.py::test_solving_is_numpys \
    tests/n2f_jax/fitting/test_gauss_newton.py::test_heads_come_back
}
export -f tests
export python
tested() {
  timeout --kill-after=2 "$test_seconds" bash -c tests >"$out/tests.txt" 2>&1
  echo "== tests ended with $? (124: not all done in time) after $SECONDS s: tests.txt"
  grep -aE "(PASSED|FAILED|ERROR)( |$)|difference|differs|loss|^=+ .*(passed|failed|error)" "$out/tests.txt"
}
{
  # Beside the first part, which compiles for longer than they run and measures then.
  tested &
  # shellcheck disable=SC2086  # names of parts
  "$python" scripts/benchmarks/gpu_figures.py --out "$out" --seconds $((in_all - SECONDS)) ${tiny:+--tiny} \
    ${PARTS:+--parts $PARTS} 2>&1
  wait
  echo "== all: $SECONDS s"
} | tee "$out/log.txt"
