#!/usr/bin/env bash
# Formats every C++ and CUDA file in place; with --check only says which files would change.
set -euo pipefail
cd "$(dirname "$0")/.."

mapfile -t files < <(git ls-files '*.h' '*.cpp' '*.cu' '*.cuh')
if [[ ${1:-} == --check ]]; then
  clang-format --dry-run -Werror "${files[@]}"
  echo "format: ${#files[@]} files are clean"
else
  clang-format -i "${files[@]}"
fi
