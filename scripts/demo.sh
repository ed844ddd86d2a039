#!/usr/bin/env bash
# From nothing to generated text on the CPU: installs packages, builds, compiles the bundled
# checkpoint to 4-bit weights and 8-bit activations, shows its report and continues a prompt; then
# the same at 2 bits with learned distribution correction.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh
cmake --preset cpu -DABQ_TESTS=OFF >/dev/null
cmake --build --preset cpu --target abq
abq=build/cpu/tools/abq
artifact=build/demo.abq

step() { printf '\n$ %s\n' "$*"; "$@"; }
step "$abq" compile tests/data/tiny-llama -o "$artifact" --scheme w4a8-kv8 --force
step "$abq" inspect "$artifact"
step "$abq" run "$artifact" -p "In 2009 , the film was" -n 40
step "$abq" compile tests/data/tiny-llama -o "$artifact" --scheme w2ba8 --method abq \
  --calib tests/data/wikitext2-slice.txt --calib-windows 32 --calib-context 128 --batch 1 --force
step "$abq" run "$artifact" -p "In 2009 , the film was" -n 40
