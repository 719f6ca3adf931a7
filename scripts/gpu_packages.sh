# shellcheck shell=bash disable=SC2154  # python and TINY are the caller's
# Sourced by on_gpu.sh and on_gpu_train.sh: what runs there imports this tree, packages that are missing there come from the
# wheels in .whl, if it is there (not with TINY), and compiled programs are kept for the next run on the same machine.
export PYTHONUNBUFFERED=1 PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
if compgen -G ".whl/*.whl" >/dev/null && [[ ! ${TINY:-} ]]; then
  site=$(mktemp -d)
  "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$site" .whl/*.whl ||
    echo "the wheels in .whl could not be installed: going on without"
  export PYTHONPATH=$PYTHONPATH:$site
fi
[[ ${TINY:-} ]] || export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-/tmp/n2f-jax-gpu-cache}
