#!/usr/bin/env bash
# Everything about method abq that needs a GPU, from an installed folder and the build's test programs.
#   scripts/check_cuda.sh PREFIX TESTS_DIR REFERENCE_DIR [PHASE ...]
# PREFIX is what `cmake --install` made, TESTS_DIR has abq_compute_cuda_tests and
# abq_passes_cuda_tests, REFERENCE_DIR has models/wiki-llama-19m and text/. Phases, all by default:
#   tests     the CUDA tests
#   sanitize  the same under compute-sanitizer's memcheck, and racecheck where kernels share memory
#   time      wiki-llama-19m, 128 x 1024 tokens, 20 epochs, with the time of each pass
#   rows      perplexities of docs/benchmarks.md, the outlier variant included
#   ablation  each term off, at W2*A8 and W4A4: 10 epochs, first 64 windows of the validation text
#   large     one block of LLaMA-7B's shape: time of 1 and of 2 epochs, peak device memory
set -uo pipefail
export ABQ_REQUIRE_CUDA=1
prefix=$(realpath "$1")
tests=$(realpath "$2")
reference=$(realpath "$3")
shift 3
phases=("$@")
((${#phases[@]})) || phases=(tests sanitize time rows ablation large)
here=$(dirname "$(realpath "$0")")
abq=$prefix/bin/abq
export ABQ_CUDA_LIBRARY=$prefix/lib/libabq_cuda.so
export LD_LIBRARY_PATH=$prefix/lib:${LD_LIBRARY_PATH-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

phase_tests() {
  "$tests/abq_compute_cuda_tests" && "$tests/abq_passes_cuda_tests"
}

# The out-of-memory test asks the driver for what it does not have: a failed call by intent.
sanitize() {
  local tool=$1
  shift
  compute-sanitizer --tool "$tool" --report-api-errors no --error-exitcode 9 "$@" 2>&1 | tail -1
}

# racecheck is slow (all of the compute program takes it more than 150 s) and looks at shared memory
# alone: it gets the cases of kernels that have some, without repetitions and long contexts.
phase_sanitize() {
  local races='*row functions*,*: attention agrees*,*losses*,*quantizers agree*,*affine*,*NaN*'
  local bad=0
  sanitize memcheck "$tests/abq_passes_cuda_tests" || bad=1
  sanitize racecheck "$tests/abq_passes_cuda_tests" || bad=1
  sanitize memcheck "$tests/abq_compute_cuda_tests" || bad=1
  sanitize racecheck "$tests/abq_compute_cuda_tests" -tc="$races" || bad=1
  return $bad
}

phase_time() {
  for scheme in w2ba8-kv8-q8 w4a4-kv4-q4; do
    local start
    start=$(date +%s.%N)
    "$abq" compile "$reference/models/wiki-llama-19m" -o "$work/time.abq" --scheme $scheme --method abq \
      --calib "$reference/text/wiki-calib.txt" --no-resume --force --device cuda --log-level debug \
      >"$work/time.out" 2>"$work/time.err"
    awk -v s="$start" -v e="$(date +%s.%N)" -v n=$scheme 'BEGIN {printf "%s: %.1f s\n", n, e - s}'
    grep -hE 'pass ' "$work/time.err" "$work/time.out" | grep -v ' 0.0 s'
  done
}

phase_rows() {
  local rows=(w4a4-kv4-q4 w2a8-kv8-q8 w2ba8-kv8-q8 w3a8-kv8-q8 w2ba16)
  "$here/measure_anchors.sh" "$abq" "$reference" "${rows[@]/#/abq:}"
  python3 "$here/make_outlier_variant.py" "$reference/models/wiki-llama-19m" "$work/outliers"
  "$here/measure_anchors.sh" -m "$work/outliers" "$abq" "$reference" w16a16 abq:w4a4-kv4-q4
}

phase_ablation() {
  local rows=()
  for scheme in w2ba8-kv8-q8 w4a4-kv4-q4; do
    for option in '' +no-akl +no-dlc +no-compensation +no-lwc +no-let +mse; do
      rows+=("abq:$scheme$option+epochs=10@valid")
    done
  done
  "$here/measure_anchors.sh" -w 64 "$abq" "$reference" "${rows[@]}"
}

phase_large() {
  python3 "$here/make_random_checkpoint.py" --shape llama-7b --layers 1 \
    --tokenizer "$reference/models/wiki-llama-19m/tokenizer.json" "$work/7b" >"$work/7b.txt"
  for epochs in 1 2; do
    echo "$epochs:"
    "$abq" compile "$work/7b" -o "$work/7b.abq" --scheme w2ba8 --method abq --epochs $epochs \
      --calib-context 2048 --calib "$reference/text/wiki-calib.txt" --no-resume --force --device cuda \
      --log-level debug 2>&1 | grep -E 'pass |peak memory|note|error' | grep -v ' 0.0 s'
  done
}

failed=0
for phase in "${phases[@]}"; do
  echo "== $phase"
  "phase_$phase" || failed=1
done
exit $failed
