#!/usr/bin/env bash
# Build .venv with dpose_yolo (editable) and its dev and export extras. Does nothing when .venv is up to date.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}

fail() { echo "setup: $*" >&2; exit 1; }

command -v "$python" >/dev/null || fail "no $python found: install Python 3.10 or newer (Debian: apt-get install python3 python3-venv)"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
    || fail "$("$python" --version) is too old: Python 3.10 or newer is needed (make setup PYTHON=python3.11)"

# Two stamps. A venv is built anew when its Python or its folder changed (it cannot be moved); its packages are
# installed again when pyproject.toml changed.
base=$({ pwd; "$python" -c 'import sys; print(sys.version, sys.base_prefix)'; } | cksum)
packages=$(cksum <pyproject.toml)
same() { [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]; }
usable() { same .venv/stamp.base "$base" && .venv/bin/python -c '' 2>/dev/null; }
if usable && same .venv/stamp.packages "$packages"; then exit 0; fi

# venv needs ensurepip, opencv-python needs the GL and GLib libraries; a bare Debian has none of them.
missing=()
"$python" -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
if [ "$(uname -s)" = Linux ]; then
    has_library() { "$python" -c 'import ctypes, sys; ctypes.CDLL(sys.argv[1])' "$1" 2>/dev/null; }
    has_library libGL.so.1 || missing+=(libgl1)
    has_library libgthread-2.0.so.0 || missing+=(libglib2.0-0)
fi
if [ ${#missing[@]} -gt 0 ]; then
    hint="apt-get install ${missing[*]} (or what provides them on your system)"
    command -v apt-get >/dev/null && [ "$(id -u)" = 0 ] || fail "system packages are missing: $hint"
    echo "setup: installing system packages: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 \
        || { tail -n 5 "$log" >&2; fail "apt-get did not succeed; needed: $hint"; }
    rm -f "$log"
fi

if ! usable; then
    rm -rf .venv
    "$python" -m venv .venv || fail "could not create .venv with $("$python" --version)"
    mkdir -p .venv/config
    echo "$base" >.venv/stamp.base
fi
echo "setup: installing packages into .venv (some minutes the first time)"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore PIP_PROGRESS_BAR=off
.venv/bin/python -m pip install --quiet -e '.[dev,export]' || fail "pip install failed (see above)"
.venv/bin/python -c 'import cv2, torch, ultralytics' >/dev/null \
    || fail "the packages are installed but cannot be imported (see above)"
echo "$packages" >.venv/stamp.packages
if [ "$(uname -s)" = Linux ] && ! has_library libEGL.so.1; then
    echo "setup: dpose render needs system packages besides: apt-get install libegl1 libgl1-mesa-dri"
fi
echo "setup: done"
