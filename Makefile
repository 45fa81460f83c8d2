# Everything runs from .venv, which `make setup` builds; no other Python, no user settings are touched.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo offline bench api test test-slow test-formats lint clean

PYTHON ?= python3
# Processes that share the files of tests; each takes about 2 GB.
TEST_WORKERS ?= 2
BIN := $(CURDIR)/.venv/bin

# The engine must not reach for the network, install packages or write into the user's settings.
export YOLO_OFFLINE := true
export YOLO_AUTOINSTALL := false
export YOLO_CONFIG_DIR := $(CURDIR)/.venv/config
export MPLBACKEND := Agg
export PYTHON

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## build .venv with everything (skipped when up to date)
	@bash scripts/setup.sh

demo: setup ## train, validate, explain, export and predict on the sample set (all under runs/demo)
	@PATH="$(BIN):$$PATH" bash scripts/demo.sh

offline: setup ## the demo without network, under a tracer that counts attempts to reach one (needs strace, unshare)
	@PATH="$(BIN):$$PATH" "$(BIN)/python" tests/offline_demo.py

bench: setup ## the smallest study of docs/benchmarks.md, on the sample set, under an hour on two cores (runs/bench; goes on when run again)
	@PATH="$(BIN):$$PATH" bash scripts/bench.sh

# The modules a user calls; their docstrings are the reference.
API := settings errors engine.trainer engine.finetune posture attention losses metrics runtime

api: setup ## reference of the Python interface from its docstrings, as HTML (runs/api/index.html)
	@"$(BIN)/pdoc" --docformat google --no-show-source --output-directory runs/api $(API:%=dpose_yolo.%)
	@echo "api: runs/api/index.html"

lint: setup ## ruff format, ruff check, mypy
	@"$(BIN)/ruff" format --check --quiet . || { echo "ruff format: run '.venv/bin/ruff format .'"; exit 1; }
	@"$(BIN)/ruff" check --quiet .
	@"$(BIN)/mypy" --no-error-summary
	@echo "lint: clean"

test: lint ## lint, then the fast tests
	@"$(BIN)/python" -m pytest -m "not slow" -n $(TEST_WORKERS) --dist loadfile

test-slow: setup ## stock models, pretrained weights, real images
	@"$(BIN)/python" -m pytest -m slow

test-formats: setup ## exports in the formats whose toolkits are optional, which it installs into .venv (2 GB)
	@"$(BIN)/pip" install --quiet '.[formats]' || { echo "test-formats: the toolkits cannot be installed"; exit 1; }
	@"$(BIN)/python" -m pytest tests/test_export.py tests/test_export_trained.py

clean: ## remove .venv, caches, build products and runs/demo (other runs and data stay)
	@rm -rf .venv build dist *.egg-info runs/demo .mypy_cache .pytest_cache .ruff_cache .hypothesis
	@find . -path ./.git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
	@find data \( -name '*.cache' -o -name '*.postures.npz' \) -type f -delete
