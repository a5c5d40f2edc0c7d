# Two commands for a fresh machine: `make demo` and `make test`. Both set up .venv first.
# TORCH_INDEX_URL=... installs torch from that index (a CPU build keeps gigabytes of CUDA away); empty: pip's own setting.

PYTHON ?= python3
TORCH_INDEX_URL ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SHELL := /bin/bash
# Besides what failed, how many tests skipped and why: a machine without kubectl passes with 170 fewer.
PYTEST := $(BIN)/python -m pytest -rfEs

.PHONY: setup demo smoke test slow lint types consumer clean

setup: $(READY)

# Torch comes first and pinned: left to the resolver, another package's wish pulls a build with CUDA in it. And alone: what it
# needs comes with the rest, in the versions that are pinned, which an index of builds does not have.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "tadscale needs Python 3.11 or later (Debian: apt install python3 python3-venv)"'
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "The system package python3-venv is missing (Debian: apt install python3-venv)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-deps $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL)) torch==2.13.0
	$(BIN)/pip install --quiet -c constraints.txt -e '.[train,dev]'
	touch $@

demo: setup ## Distil a flow teacher into an RGB student on built-in data, score and register it
	PATH="$(CURDIR)/$(BIN):$$PATH" jobs/distill.yaml

smoke: setup ## The demo at a size that only proves that every stage runs
	rm -rf runs/smoke
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/tadscale run jobs/distill.yaml --set name=smoke --set storage=runs/smoke \
	  --set data.url=runs/smoke/data --set data.sprites.train=8 --set data.sprites.validation=2 --set data.sprites.test=4 \
	  --set optim.epochs=1 --set tracking.registered_model=sprites-smoke

# What starts clusters in one line, everything else beside it; two clusters at a time would starve each other.
test: setup
	@$(PYTEST) -m "not slow and not clusters" > $(VENV)/beside.log 2>&1 & beside=$$!; \
	$(PYTEST) -m "clusters and not slow"; failed=$$?; \
	wait $$beside || failed=$$?; cat $(VENV)/beside.log; exit $$failed

slow: setup ## The tests that run whole jobs many times over
	$(PYTEST) -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

consumer: setup ## Use an exported model in a fresh environment that has neither Ray nor DeepSpeed nor tadscale
	PYTHON=$(BIN)/python tests/serving/consumer_venv.sh

clean:
	rm -rf $(VENV) runs
