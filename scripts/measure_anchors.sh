#!/usr/bin/env bash
# Compiles the reference checkpoint at rows of docs/benchmarks.md and measures their perplexity.
#   scripts/measure_anchors.sh [-m MODEL_DIR] ABQ REFERENCE_DIR [ROW ...]
# ABQ is the binary; REFERENCE_DIR has models/wiki-llama-19m and text/. A ROW is
#   [METHOD:]SCHEME[+OPTION...][@valid]          e.g. abq:w4a4-kv4-q4+no-akl+epochs=40
# with options of `abq compile` without their dashes, and @valid for the validation text. Without
# rows, all of rtn and smooth are measured. Evaluation runs beside the next compilation.
set -euo pipefail
model=
if [[ ${1-} == -m ]]; then
  model=$2
  shift 2
fi
abq=$1
reference=$2
shift 2
model=${model:-$reference/models/wiki-llama-19m}
rows=("$@")
if ((${#rows[@]} == 0)); then
  rows=(w16a16 w16a16@valid w8a8-kv8-q8 w6a6-kv6-q6 w4a8-kv8-q8 w4a4-kv4-q4 w3a8-kv8-q8 w2a8-kv8-q8
        w2ba8-kv8-q8 w2ba16 w4a16 w4a4-g128-kv4-q4 w2ba8-g128-kv8-q8
        smooth:w8a8-kv8-q8 smooth:w4a4-kv4-q4)
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Evaluates compilation $1 of row $2 on text $3, which took $4 seconds, and prints the row.
evaluate() {
  "$abq" eval "$work/$1.abq" --text "$reference/text/wikitext2-$3.txt" --convention gptq-1024 \
    >"$work/$1.eval" 2>&1 || { echo "$2: evaluation failed: $(tail -1 "$work/$1.eval")"; return; }
  printf '%-44s %-6s %12s %10s %10s %9s\n' "$2" "$3" \
    "$(awk '$1 == "perplexity" {print $2}' "$work/$1.eval")" \
    "$(awk '$1 == "linears" {print $2}' "$work/$1.out")" \
    "$(stat -c %s "$work/$1.abq" | awk '{printf "%.2f", $1 / 1e6}')" "$4"
  rm -f "$work/$1.abq"
}

printf '%-44s %-6s %12s %10s %10s %9s\n' row text perplexity "linears b" "file MB" seconds
index=0
for row in "${rows[@]}"; do
  index=$((index + 1))
  text=test
  [[ $row == *@valid ]] && text=valid
  name=${row%@*}
  IFS=+ read -ra parts <<<"$name"
  scheme=${parts[0]#*:}
  method=rtn
  [[ ${parts[0]} == *:* ]] && method=${parts[0]%%:*}
  flags=(--method "$method")
  [[ $method == rtn ]] || flags+=(--calib "$reference/text/wiki-calib.txt")
  [[ $method == abq ]] && flags+=(--no-resume)
  for option in "${parts[@]:1}"; do flags+=("--$option"); done
  start=$(date +%s.%N)
  if ! "$abq" compile "$model" -o "$work/$index.abq" --scheme "$scheme" "${flags[@]}" --force \
    >"$work/$index.out" 2>"$work/$index.err"; then
    echo "$name: compilation failed: $(tail -1 "$work/$index.err")"
    continue
  fi
  seconds=$(awk -v s="$start" -v e="$(date +%s.%N)" 'BEGIN {printf "%.1f", e - s}')
  wait
  evaluate "$index" "$name" "$text" "$seconds" &
done
wait
