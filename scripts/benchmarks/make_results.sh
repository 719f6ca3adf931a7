#!/usr/bin/env bash
# make_results.sh DIR PYTHON [NAME…]: what README.md claims and RESULTS.md says of the open benchmark, measured again into
# DIR/*.txt; with names, these alone (and the trainings). SMALL=1: on few heads, without trainings.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$1 python=$2 only=" ${*:3} "
[[ $python == /* ]] || python=$PWD/$python
small=${SMALL:-}
mkdir -p "$out"

# measure NAME COMMAND…: the command and all that it prints, whole or not at all; what is there stays.
measure() {
  local name=$1
  shift
  [[ -e $out/$name.txt || ($only != "  " && $only != *" $name "*) ]] && return
  echo "== $name: $*" >&2
  { echo "\$ $*"; "$python" "$@"; } >"$out/$name.part"
  mv "$out/$name.part" "$out/$name.txt"
}

# train NAME CONFIG…: resumes.
train() {
  local name=$1 config=$2
  shift 2
  [[ -e $out/runs/$name.done ]] && return
  echo "== training $name" >&2
  "$python" scripts/train.py --config="$config" --workdir="$out/runs/$name" --config.batch_size=64 \
    --config.total_steps=600 --config.validation.every=150 \
    --config.validation.batch_size=64 --config.data.front_end_share=0 "$@"
  touch "$out/runs/$name.done"
}

heads() { if [[ $small ]]; then echo "$1"; else echo "$2"; fi; }

measure synthetic scripts/benchmarks/evaluate_synthetic.py n2f_jax/models/assets/default --num-heads "$(heads 50 1000)"
measure photos scripts/benchmarks/evaluate_photos.py --refine 0
measure photos_refined scripts/benchmarks/evaluate_photos.py
measure refinement scripts/benchmarks/compare_fits.py front-end --out "$out/fitting" --heads "$(heads 8 96)"
measure rendering scripts/benchmarks/speed.py render

measure benchmark scripts/make_benchmark.py --out "$out/benchmark" --heads "$(heads 10 90)"
if [[ ! $small ]]; then # trainings of minutes each, and what the paper compares them for
  runs=$out/runs ablations=configs/ablations
  train normals1 configs/stage1.py:small
  train normals2 configs/stage2.py:small --config.init_from="$runs/normals1/best"
  train joint $ablations/joint.py:small
  for input in uv uv_normals no_segmentation; do
    train ${input}1 $ablations/$input.py:stage1-small
    train ${input}2 $ablations/$input.py:stage2-small --config.init_from="$runs/${input}1/best"
  done
  if [[ ! -e $runs/finetuned.done ]]; then
    "$python" scripts/build/make_finetune_data.py --out "$out/finetune_data"
    "$python" scripts/train.py --config=configs/finetune_stage1.py:small --workdir="$runs/finetuned" \
      --config.init_from="$runs/normals2/best" --config.stored.folder="$out/finetune_data/renders"
    touch "$runs/finetuned.done"
  fi
  measure table1 scripts/run_benchmark.py "$out/benchmark" --out "$out/table1" --fits none \
    --network two_stages="$runs/normals2/best" --network joint="$runs/joint/best" --network fine_tuned="$runs/finetuned/best"
  measure table2 scripts/run_benchmark.py "$out/benchmark" --out "$out/table2" --fits none --conditions clean \
    --network normals="$runs/normals2/best" --network uv="$runs/uv2/best" --network uv_normals="$runs/uv_normals2/best"
  measure table3_segmentation scripts/run_benchmark.py "$out/benchmark" --out "$out/table3_segmentation" --fits none \
    --conditions clean noisy --network with="$runs/normals2/best" --network without="$runs/no_segmentation2/best"
fi
fits=()
[[ $small ]] && fits=(--fits "Gauss-Newton from mean" "Gauss-Newton from network")
measure table3 scripts/run_benchmark.py "$out/benchmark" --out "$out/table3" --adam-heads "$(heads 8 16)" "${fits[@]}"
measure curves scripts/run_benchmark.py --curves --out "$out/curves" --heads "$(heads 10 40)"
if [[ ! $small ]]; then
  measure fitting scripts/benchmarks/compare_fits.py held-out --out "$out/fitting"
  measure fitting_photos scripts/benchmarks/compare_fits.py photos --out "$out/fitting"
fi
echo "all figures: $out/*.txt"
