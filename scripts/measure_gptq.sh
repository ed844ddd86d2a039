#!/usr/bin/env bash
# Measures method gptq on the reference checkpoint: perplexity, size and seconds of each row, through
# scripts/measure_anchors.sh, whose options it takes.
#   scripts/measure_gptq.sh [-m MODEL_DIR] [-j JOBS] [-w WINDOWS] ABQ REFERENCE_DIR [GROUP ...]
# Groups of rows, all by default:
#   plain    norms in norms
#   folded   norm weights folded into linears, no rotation
#   rotated  --rotate, three seeds
#   groups   --rotate, weights in groups
#   large    one block of LLaMA-7B's shape, 128 windows of 2048, with the time of each pass
# DEVICE=cpu|cuda|auto (auto).
set -euo pipefail
options=()
while [[ ${1-} == -* ]]; do
  options+=("$1" "$2")
  shift 2
done
abq=$(realpath "$1")
reference=$(realpath "$2")
shift 2
groups=("$@")
((${#groups[@]})) || groups=(plain folded rotated groups large)
device=device=${DEVICE:-auto}
here=$(dirname "$(realpath "$0")")
wide=(w6a6-kv6-q6 w4a8-kv8-q8 w4a4-kv4-q4 w3a8-kv8-q8 w2a8-kv8-q8 w2ba8-kv8-q8)

rows=()
for group in "${groups[@]}"; do
  case $group in
    plain) for s in "${wide[@]}"; do rows+=("gptq:$s+$device"); done ;;
    folded) ;;
    rotated)
      for s in "${wide[@]}"; do
        for seed in 0 1 2; do rows+=("gptq:$s+rotate+seed=$seed+$device"); done
      done
      ;;
    groups)
      for s in w4a4-g128-kv4-q4 w2ba8-g128-kv8-q8 w2ba8-g64-kv8-q8 w2ba8-g32-kv8-q8; do
        rows+=("gptq:$s+rotate+$device")
      done
      ;;
    large) ;;
    *) echo "unknown group $group" >&2; exit 2 ;;
  esac
done
if ((${#rows[@]})); then
  "$here/measure_anchors.sh" "${options[@]}" "$abq" "$reference" "${rows[@]}"
fi

# The checkpoint itself is folded: rows of a model of its own.
folded() {
  local work s
  work=$(mktemp -d)
  trap 'rm -rf "$work"' RETURN
  python3 "$here/make_folded_variant.py" "$reference/models/wiki-llama-19m" "$work/folded" >/dev/null
  echo "norms folded:"
  "$here/measure_anchors.sh" "${options[@]}" -m "$work/folded" "$abq" "$reference" \
    $(printf 'gptq:%s+'"$device"' ' "${wide[@]}")
}
[[ " ${groups[*]} " == *" folded "* ]] && folded

large() {
  local work
  work=$(mktemp -d)
  trap 'rm -rf "$work"' RETURN
  python3 "$here/make_random_checkpoint.py" --shape llama-7b --layers 1 \
    --tokenizer "$reference/models/wiki-llama-19m/tokenizer.json" "$work/7b" >/dev/null
  local scheme
  for scheme in w3a8-kv8-q8 w2ba8-g128-kv8-q8; do
    echo "one block of llama-7b, $scheme, --${device/=/ }:"
    "$abq" --log-level debug compile "$work/7b" -o "$work/7b.abq" --scheme $scheme --method gptq \
      --calib-context 2048 --calib "$reference/text/wiki-calib.txt" --force "--$device" 2>&1 |
      grep -E 'pass |peak memory|rounding|note|error' | grep -v ' 0.0 s' || true
  done
}
[[ " ${groups[*]} " == *" large "* ]] && large
exit 0
