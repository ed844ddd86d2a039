#!/usr/bin/env bash
# Everything that must hold before a change lands: packages, format, layering, build, all tests.
#   scripts/check.sh            default preset (CUDA when nvcc is found)
#   scripts/check.sh asan       the same tests under the address and undefined-behaviour sanitizers
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-default}

scripts/setup.sh
scripts/format.sh --check
scripts/check_layering.sh
cmake --preset "$preset" >/dev/null
cmake --build --preset "$preset"
ctest --preset "$preset" -j "$(nproc)"
