#!/usr/bin/env bash
# Installs the Debian packages that building and testing abq needs. Run as root or with sudo at hand;
# does nothing when all are there.
set -euo pipefail

packages=(
  # tools
  ca-certificates ccache clang-format cmake g++ git ninja-build pkg-config patchelf
  # libraries (docs/architecture.md, "Dependencies", says what each is for)
  doctest-dev libcli11-dev libeigen3-dev libfmt-dev libpcre2-dev libprotobuf-dev
  libsentencepiece-dev libspdlog-dev libxxhash-dev nlohmann-json3-dev protobuf-compiler
)

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f='${Status}' "$package" 2>/dev/null || true)
  [[ $status == "install ok installed" ]] || missing+=("$package")
done
if ((${#missing[@]} == 0)); then
  echo "setup: all packages are installed"
  exit 0
fi

as_root=()
if ((EUID != 0)); then
  command -v sudo >/dev/null || { echo "setup: run as root, or install sudo" >&2; exit 1; }
  as_root=(sudo)
fi
echo "setup: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
