#!/usr/bin/env bash
# Installs the build, moves the folder, and uses it from there as another machine would: nothing of
# the build tree or of the environment helps.
#
#   moved_folder_test.sh <cmake> <readelf> <build folder> <tests/data>
set -euo pipefail
cmake=$1 readelf=$2 build=$3 data=$4

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
unset LD_LIBRARY_PATH LD_PRELOAD

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

"$cmake" --install "$build" --prefix "$scratch/first place" >"$scratch/install.log" ||
  fail "cmake --install: $(cat "$scratch/install.log")"
mv "$scratch/first place" "$scratch/second place"
folder="$scratch/second place"
abq="$folder/bin/abq"
mkdir "$scratch/elsewhere"
cd "$scratch/elsewhere"

for file in LICENSE NOTICE; do
  [[ -s "$folder/share/abq/$file" ]] || fail "share/abq/$file is missing or empty"
done

# One run path, relative to the binary.
run_paths=$("$readelf" --dynamic --wide "$abq" | grep -E '\((RPATH|RUNPATH)\)' || true)
[[ $(wc -l <<<"$run_paths") == 1 && $run_paths == *'[$ORIGIN/../lib]' ]] ||
  fail "expected the run path \$ORIGIN/../lib alone, got: $run_paths"

# Only the C library is the machine's.
libraries=$(ldd "$abq")
while read -r name arrow path _; do
  case $name in
    linux-vdso.so.* | */ld-linux*.so.* | ld-linux*.so.*) continue ;;
    libc.so.* | libm.so.* | libdl.so.* | librt.so.* | libpthread.so.*) continue ;;
  esac
  [[ $arrow == '=>' ]] || fail "ldd: unexpected line of $name"
  # ldd shows the path with its `bin/../lib`, cut at the space of "second place".
  full=$(sed -n "s|^[[:space:]]*$name => \(.*\) (0x[0-9a-f]*)\$|\1|p" <<<"$libraries")
  [[ -n $full && $(realpath "$full") == "$(realpath "$folder")/lib/"* ]] ||
    fail "$name is taken from ${full:-$path}, not from the folder"
done <<<"$libraries"
for library in fmt spdlog sentencepiece stdc++ gcc_s; do
  grep -q "lib$library\.so" <<<"$libraries" || fail "lib$library is not among: $libraries"
done

# tokenizer.model and a plan in one process: Debian's libsentencepiece brings a protobuf of its own.
# Its vocabulary is smaller than the model's, as where a checkpoint pads its embeddings.
mkdir model
cp "$data"/tiny-llama/{config.json,generation_config.json,model.safetensors} model/
cp "$data/tokenizers/llama2-style.model" model/tokenizer.model
"$abq" compile model -o model.abq --scheme w4a8
[[ $(ls) == $'model\nmodel.abq' ]] || fail "compile left more than its artifact: $(ls)"
"$abq" inspect model.abq | grep -q w4a8 || fail "inspect does not name the scheme"
"$abq" inspect model.abq --json >report.json
"$abq" run model.abq -p "The castle was built in" -n 16 --no-bos --ignore-stop --print-ids >ids.txt
[[ $(wc -l <ids.txt) == 16 ]] || fail "run printed $(wc -l <ids.txt) ids, expected 16"
# The first new id may be one that only the model has: that is an error of its own, after the prompt.
text=$("$abq" run model.abq -p "The castle was built in" -n 1 --echo --quiet 2>error.txt) ||
  grep -q 'is not in the vocabulary of 500 ids' error.txt || fail "run --echo: $(cat error.txt)"
[[ $text == *"The castle was built in"* ]] || fail "run --echo printed: $text"
"$abq" doctor
"$abq" doctor model.abq | grep -q '^self-test *passed' || fail "doctor did not pass the artifact"
