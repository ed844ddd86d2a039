#!/usr/bin/env bash
# Compiles the reference checkpoint at rows of docs/benchmarks.md and measures their perplexity.
#   scripts/measure_anchors.sh [-m MODEL_DIR] [-j JOBS] [-w WINDOWS] ABQ REFERENCE_DIR [ROW ...]
# ABQ is the binary; REFERENCE_DIR has models/wiki-llama-19m and text/. A ROW is
#   [METHOD:]SCHEME[+OPTION...][@valid|@both]    e.g. abq:w4a4-kv4-q4+no-akl+epochs=40
# with options of `abq compile` without their dashes, and @valid for the validation text, @both for
# test and validation. Without rows, all of rtn and smooth are measured. With -j, rows run side by side and share the machine: the
# seconds of a row are its own only without. -w scores that many windows of the text instead of all.
set -euo pipefail
model=
jobs=1
scored=()
while [[ ${1-} == -* ]]; do
  case $1 in
    -m) model=$2 ;;
    -j) jobs=$2 ;;
    -w) scored=(--windows "$2") ;;
    *) echo "unknown option $1" >&2; exit 2 ;;
  esac
  shift 2
done
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

# Measures row $2 as compilation number $1.
measure() {
  local row=$2 text texts=(test)
  [[ $row == *@valid ]] && texts=(valid)
  [[ $row == *@both ]] && texts=(test valid)
  local name=${row%@*} parts method=rtn
  IFS=+ read -ra parts <<<"$name"
  local scheme=${parts[0]#*:}
  [[ ${parts[0]} == *:* ]] && method=${parts[0]%%:*}
  local flags=(--method "$method") option
  [[ $method == rtn || $name == *+calib=* ]] || flags+=(--calib "$reference/text/wiki-calib.txt")
  [[ $method == abq || $method == best ]] && flags+=(--no-resume)
  for option in "${parts[@]:1}"; do flags+=("--$option"); done
  local file=$work/$1 start
  start=$(date +%s.%N)
  "$abq" compile "$model" -o "$file.abq" --scheme "$scheme" "${flags[@]}" >"$file.out" 2>"$file.err" ||
    { echo "$name: compilation failed: $(tail -1 "$file.err")"; return; }
  local seconds
  seconds=$(awk -v s="$start" -v e="$(date +%s.%N)" 'BEGIN {printf "%.1f", e - s}')
  for text in "${texts[@]}"; do
    "$abq" eval "$file.abq" --text "$reference/text/wikitext2-$text.txt" --convention gptq-1024 \
      "${scored[@]}" >"$file.eval" 2>&1 ||
      { echo "$name: evaluation failed: $(tail -1 "$file.eval")"; return; }
    printf '%-44s %-6s %12s %10s %10s %9s\n' "$name" "$text" \
      "$(awk '$1 == "perplexity" {print $2}' "$file.eval")" \
      "$(awk '$1 == "linears" {print $2}' "$file.out")" \
      "$(stat -c %s "$file.abq" | awk '{printf "%.2f", $1 / 1e6}')" "$seconds"
  done
  rm -f "$file.abq"
}

printf '%-44s %-6s %12s %10s %10s %9s\n' row text perplexity "linears b" "file MB" seconds
index=0
for row in "${rows[@]}"; do
  index=$((index + 1))
  while (($(jobs -rp | wc -l) >= jobs)); do wait -n; done
  measure "$index" "$row" &
done
wait
