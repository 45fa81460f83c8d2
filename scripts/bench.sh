#!/usr/bin/env bash
# What `make bench` runs: the smallest study, on the sample set, with two trainings at a time. Run it again to go on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export YOLO_OFFLINE=${YOLO_OFFLINE:-true} YOLO_CONFIG_DIR=${YOLO_CONFIG_DIR:-$PWD/.venv/config} MPLBACKEND=Agg

command -v dpose >/dev/null || { echo "bench: no dpose command; run it as 'make bench'" >&2; exit 1; }
run() { printf '\n$ %s\n' "$*"; "$@"; }

run dpose ablate data=data/cabin_mini.yaml model=dpose-125.yaml imgsz=128 epochs="${BENCH_EPOCHS:-30}" \
    cache=ram device=cpu seeds="${BENCH_SEEDS:-3}" parallel=2 project=runs/bench name=ablate
