#!/usr/bin/env bash
# Compiles the reference checkpoint at every row of docs/benchmarks.md and measures its perplexity.
#   scripts/measure_anchors.sh ABQ REFERENCE_DIR [ROW ...]
# ABQ is the binary; REFERENCE_DIR has models/wiki-llama-19m and text/. A ROW is SCHEME, or
# smooth:SCHEME, with @valid behind it for the validation text; without rows, all are measured.
set -euo pipefail
abq=$1
reference=$2
shift 2
rows=("$@")
if ((${#rows[@]} == 0)); then
  rows=(w16a16 w16a16@valid w8a8-kv8-q8 w6a6-kv6-q6 w4a8-kv8-q8 w4a4-kv4-q4 w3a8-kv8-q8 w2a8-kv8-q8
        w2ba8-kv8-q8 w2ba16 w4a16 w4a4-g128-kv4-q4 w2ba8-g128-kv8-q8
        smooth:w8a8-kv8-q8 smooth:w4a4-kv4-q4)
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

printf '%-22s %-6s %12s %10s %10s %12s\n' row text perplexity "linears b" "file MB" "seconds"
for row in "${rows[@]}"; do
  text=test
  [[ $row == *@valid ]] && text=valid
  name=${row%@*}
  scheme=${name#smooth:}
  method=(--method rtn)
  [[ $name == smooth:* ]] && method=(--method smooth --calib "$reference/text/wiki-calib.txt")
  start=$SECONDS
  "$abq" compile "$reference/models/wiki-llama-19m" -o "$work/m.abq" --scheme "$scheme" \
    "${method[@]}" --force >"$work/compile.txt" 2>/dev/null
  "$abq" eval "$work/m.abq" --text "$reference/text/wikitext2-$text.txt" --convention gptq-1024 \
    >"$work/eval.txt" 2>/dev/null
  printf '%-22s %-6s %12s %10s %10s %12s\n' "$name" "$text" \
    "$(awk '$1 == "perplexity" {print $2}' "$work/eval.txt")" \
    "$(awk '$1 == "linears" {print $2}' "$work/compile.txt")" \
    "$(stat -c %s "$work/m.abq" | awk '{printf "%.2f", $1 / 1e6}')" \
    "$((SECONDS - start))"
done
