#!/bin/sh
# Rewrites the expectations of tests/golden from what the passes print now; read the diff afterwards.
# Usage: scripts/update_goldens.sh [BUILD_DIR]
set -eu
cd "$(dirname "$0")/.."
build=${1:-build/cpu}
cmake --build "$build" --target abq_passes_tests
ABQ_UPDATE_GOLDENS=1 "$build/tests/passes/abq_passes_tests" --test-case='golden*'
git --no-pager diff --stat -- tests/golden
