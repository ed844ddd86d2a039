#!/usr/bin/env bash
# Refuses an include that points upward. A folder is a layer; the table below is the law
# (docs/architecture.md has the picture).
set -euo pipefail
cd "$(dirname "$0")/.."

declare -A allowed=(
  [support]=""
  [proto]=""
  [quant]="support"
  [tokenizer]="support"
  [compute]="support"
  [ir]="support quant compute"
  [runtime]="support proto quant tokenizer compute"
  [frontend]="support ir tokenizer quant compute"
  [passes]="support ir quant compute"
  [backend]="support ir quant proto"
  [tools]="support proto quant tokenizer compute ir runtime frontend passes backend"
)

failures=0
for layer in "${!allowed[@]}"; do
  while IFS=: read -r file line include; do
    target=${include#*\"}
    target=${target%%/*}
    [[ -n ${allowed[$target]+known} && $target != "$layer" ]] || continue
    if [[ " ${allowed[$layer]} " != *" $target "* ]]; then
      echo "$file:$line: $layer must not include from $target (allowed: ${allowed[$layer]:-nothing})"
      failures=$((failures + 1))
    fi
  done < <(grep -rnE '^#include "' "$layer" --include='*.h' --include='*.cpp' --include='*.cu' \
             --include='*.cuh' --include='*.def' || true)
done

# CUDA headers stay inside the CUDA folders.
while IFS= read -r hit; do
  echo "$hit: CUDA headers belong in runtime/cuda and compute/cuda"
  failures=$((failures + 1))
done < <(git ls-files '*.h' '*.cpp' '*.cu' '*.cuh' | grep -vE '^(runtime|compute|tests/runtime)/cuda/' |
           xargs -r grep -nE '#include <(cuda|cublas|cudnn|cusolver)' || true)

((failures == 0)) || exit 1
echo "layering: every include points down"
