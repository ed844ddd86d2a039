#!/usr/bin/env bash
# Everything about the CUDA runtime that needs a GPU, from an installed folder and the build's test
# programs.
#   scripts/check_cuda_runtime.sh PREFIX TESTS_DIR REFERENCE_DIR [PHASE ...]
# PREFIX is what `cmake --install` made, TESTS_DIR has the abq_*cuda*_tests programs, REFERENCE_DIR
# has models/wiki-llama-19m and text/. Phases, all by default:
#   tests     kernels against the reference, whole models against the CPU
#   ptx       the same from the PTX that devices without own code translate (sm_80 code)
#   sanitize  memcheck and racecheck of the kernel tests
#   kernels   abq bench --kernels: our time, the read floor, cuBLAS; --attention: ours and cuDNN's
#   models    abq bench --model-shape llama-7b: tokens/s against fp16 and W8A8
#   rows      perplexities on the device beside the CPU's
set -uo pipefail
export ABQ_REQUIRE_CUDA=1
prefix=$(realpath "$1")
tests=$(realpath "$2")
reference=$(realpath "$3")
shift 3
phases=("$@")
((${#phases[@]})) || phases=(tests ptx sanitize kernels models rows)
abq=$prefix/bin/abq
export ABQ_CUDA_LIBRARY=$prefix/lib/libabq_cuda.so
export LD_LIBRARY_PATH=$prefix/lib:${LD_LIBRARY_PATH-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
kernel_tests=(tokens linear half attention wgmma)

# Runs test program $2 under the command $3..., at most $1 seconds; prints failures and the summary.
run_tests() {
  local limit=$1 program=$2 start rc
  shift 2
  start=$(date +%s)
  timeout "$limit" "$@" "$tests/$program" >"$work/$program.out" 2>&1
  rc=$?
  grep -vE '^block |^$' "$work/$program.out" | grep -E 'ERROR|FATAL|values:|CAPTURE|:=|SUMMARY|test cases|expected' |
    head -"${ABQ_SHOW_LINES:-40}"
  echo "$program: exit $rc, $(($(date +%s) - start)) s"
  return $rc
}

phase_tests() {
  local bad=0
  for part in "${kernel_tests[@]}"; do run_tests 120 "abq_runtime_cuda_${part}_tests" || bad=1; done
  run_tests 180 abq_runtime_cuda_tests || bad=1
  return $bad
}

phase_ptx() {
  local bad=0
  for part in linear half attention; do
    run_tests 180 "abq_runtime_cuda_${part}_tests" env CUDA_FORCE_PTX_JIT=1 || bad=1
  done
  # cuBLAS has no PTX. The program's own arguments stand behind it: a command of its own.
  CUDA_FORCE_PTX_JIT=1 timeout 180 "$tests/abq_runtime_cuda_tokens_tests" \
    -tce='tokens: float linear of many tokens*,tokens: the fast float linear*' >"$work/tokens.out" 2>&1 || bad=1
  grep -E 'ERROR|values:|test cases' "$work/tokens.out"
  return $bad
}

# racecheck watches every access to shared memory: it gets one test of each kind of kernel. Not of the
# wgmma kernels: it takes the copy engine's writes (UBLKCP) for a warp's and does not know that readers
# wait for their bytes at a barrier in shared memory.
race_tests() {
  case $1 in
    tokens) echo 'tokens: rms_norm_quantize of NaN*,tokens: embed*,tokens: hadamard behind*,tokens: hadamard_quantize behind*' ;;
    linear) echo 'stacked parts*' ;;
    half) echo 'cuda.half adds a residual*' ;;
    attention) echo 'windows agree with the reference' ;;
  esac
}

phase_sanitize() {
  local bad=0 checker=(compute-sanitizer --report-api-errors no --error-exitcode 9)
  for part in "${kernel_tests[@]}"; do
    run_tests 240 "abq_runtime_cuda_${part}_tests" "${checker[@]}" --tool memcheck || bad=1
    [[ -n $(race_tests "$part") ]] || continue
    # The program's own arguments stand behind it: a command of its own.
    timeout 240 "${checker[@]}" --tool racecheck "$tests/abq_runtime_cuda_${part}_tests" \
      -tc="$(race_tests "$part")" 2>&1 | tail -1
    ((PIPESTATUS[0] == 0)) || bad=1
  done
  return $bad
}

phase_kernels() {
  "$abq" bench --kernels --device cuda
  "$abq" bench --attention
}

phase_models() {
  "$abq" bench --model-shape llama-7b --schemes w2a8-kv8,w2ba8-kv8,w4a8-kv8,w4a4-kv4,w4a4-kv4+rotate
}

phase_rows() {
  local scheme device rotation
  for scheme in w16a16 w8a8-kv8-q8 w6a6-kv6-q6 w4a8-kv8-q8 w4a4-kv4-q4 w3a8-kv8-q8 w2ba8-kv8-q8 w2ba16 w4a16 \
    w8a8-kv8-q8+rotate w4a4-kv4-q4+rotate; do
    rotation=()
    [[ $scheme != *+rotate ]] || rotation=(--rotate)
    "$abq" compile "$reference/models/wiki-llama-19m" -o "$work/row.abq" --scheme "${scheme%+rotate}" \
      "${rotation[@]}" --force >"$work/row.out" 2>&1
    for device in cuda cpu; do
      "$abq" eval "$work/row.abq" --text "$reference/text/wikitext2-test.txt" --convention gptq-1024 \
        --device $device --windows "${ABQ_WINDOWS:-64}" >"$work/$device.txt" 2>&1
    done
    paste <(awk '$1 == "perplexity" {print $2}' "$work/cuda.txt") <(awk '$1 == "perplexity" {print $2}' "$work/cpu.txt") |
      awk -v n=$scheme '{printf "%-18s cuda %s cpu %s  %+.3f %%\n", n, $1, $2, ($1 / $2 - 1) * 100}'
  done
}

failed=0
for phase in "${phases[@]}"; do
  echo "== $phase"
  "phase_$phase" || failed=1
done
exit $failed
