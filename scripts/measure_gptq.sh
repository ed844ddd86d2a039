#!/usr/bin/env bash
# Measures method gptq: perplexity, size and seconds of each scheme.
#   scripts/measure_gptq.sh [-j JOBS] [-w WINDOWS] ABQ REFERENCE_DIR [OPTION ...]
# OPTION goes to `abq compile` with every row, without its dashes (device=cpu, calib-windows=32).
# Rows of one block scheme each, the published activation setting; options as in measure_anchors.sh.
set -euo pipefail
flags=()
while [[ ${1-} == -* ]]; do
  flags+=("$1" "$2")
  shift 2
done
abq=$1
reference=$2
shift 2
suffix=
for option in "$@"; do suffix+="+$option"; done
rows=()
for scheme in w6a6-kv6-q6 w4a8-kv8-q8 w4a4-kv4-q4 w3a8-kv8-q8 w2a8-kv8-q8 w2ba8-kv8-q8 \
  w4a4-g128-kv4-q4 w2ba8-g128-kv8-q8 w2ba8-g64-kv8-q8; do
  rows+=("gptq:$scheme$suffix")
done
exec "$(dirname "$0")/measure_anchors.sh" "${flags[@]}" "$abq" "$reference" "${rows[@]}"
