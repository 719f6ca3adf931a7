#!/usr/bin/env bash
# on_gpu_train.sh [DIR]: trains the network that ships on a large GPU that is lent for minutes, in legs: DIR/best (default
# DIR: $OUT) has the last one's weights before the next begins, so that nothing is lost when the time is up. The first leg
# compiles, about 230 s beside an H100 with 16 processor cores, 460 s with 5; the others have as many steps and find the
# program in the cache.
#   SECONDS_IN_ALL  when to have ended (540)         STEPS, BATCH  of a leg (1500, 1024: 140 s)
#   RATE            peak, falling to 0 in each leg (2e-3), times DECAY from leg to leg (1; another rate is another program,
#                   which compiles anew)
#   INIT            where to start (default: the checkpoint that ships); CONFIG (configs/correction.py), MORE: flags
# Afterwards: scripts/build/carry_over_checkpoint.py --checkpoint DIR/best --keep-layers --out NEW calibrates.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-${OUT:?name a folder for the results}}
mkdir -p "$out"
out=$(cd "$out" && pwd)
python=${PYTHON:-python3} in_all=${SECONDS_IN_ALL:-540} steps=${STEPS:-1500} batch=${BATCH:-1024}
rate=${RATE:-2e-3} decay=${DECAY:-1} from=${INIT:-default} config=${CONFIG:-configs/correction.py}
source scripts/gpu_packages.sh
work=$(mktemp -d)
trap 'rm -rf "$work" ${site:-}' EXIT
longest=0 # seconds of a leg that compiles nothing
for ((leg = 1; ; leg++)); do
  left=$((in_all - SECONDS))
  # The second leg's length is not known yet: half of the first's is more than enough.
  if ((leg > 1 && left < (longest ? longest * 5 / 4 : first / 2))); then break; fi
  began=$SECONDS
  flags=(--workdir="$work/leg_$leg" --config="$config" --config.init_from="$from" --config.batch_size="$batch"
    --config.total_steps="$steps" --config.optimizer.warmup_steps=$((steps / 20 + 1)) --config.log_every=$((steps / 10 + 1))
    --config.validation.every="$steps" --config.validation.num_heads=512 --config.checkpoint.every="$steps")
  for group in backbone patch_embedding flame correction; do flags+=(--config.optimizer.rates.$group="$rate"); done
  # shellcheck disable=SC2086  # flags
  timeout --signal=TERM --kill-after=10 "$left" "$python" scripts/train.py "${flags[@]}" ${MORE:-} >"$work/log" 2>&1
  code=$?
  tr '\r' '\n' <"$work/log" | grep -av "%|" >>"$out/train.log"
  if [[ ! -f $work/leg_$leg/best/model.safetensors ]]; then
    echo "leg $leg: ended with $code without weights: train.log"
    break
  fi
  # Never without weights: the old ones go when the new ones are there.
  rm -rf "$out/old" && cp -r "$work/leg_$leg/best" "$out/new" && { [[ ! -d $out/best ]] || mv "$out/best" "$out/old"; } &&
    mv "$out/new" "$out/best" && rm -rf "$out/old" && from=$out/best
  took=$((SECONDS - began))
  if ((leg == 1)); then first=$took; elif ((took > longest)); then longest=$took; fi
  echo "leg $leg: $((steps * batch)) heads in $took s at a peak rate of $rate"
  grep -a "validation" "$work/log" | cut -c1-200
  rate=$("$python" -c "print($rate * $decay)")
done
echo "all: $SECONDS s"
