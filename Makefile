# Everything runs in .venv, which is made on the first call and reused while pyproject.toml stands unchanged.
#
#   make demo                 search, classify and score a small real corpus (AUDIO=folder: your own recordings)
#   make test                 lint, types and all tests, as the continuous integration runs them
#   make test-fast            lint and the quick tests, for while you work
#   make test-lowest          the quick tests with the oldest versions that pyproject.toml allows, but for torch
#   make coverage             all tests, with the coverage of each module
#   make lint                 lint and types only
#   make docs                 the documentation, strictly, into build/site
#   make bench                the benchmarks, on the demo's recordings (make demo first) or DATA="DIR/*.tar"
#   make clean                remove .venv, demo-data and all caches
#
# PYTHON=python3.12 chooses the interpreter, PIP_ARGS="..." is handed to pip (an index of CPU builds of torch, say).

PYTHON ?= python3
PIP_ARGS ?=
AUDIO ?=
DATA ?= demo-data/*/manifest.csv
PYTEST_ARGS ?=

BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt $(PIP_ARGS)
DEFINITION := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-lowest coverage lint docs bench clean

help:
	@sed -n 's/^#   make/make/p' Makefile

demo: .venv/demo.stamp
	@$(BIN)/python -m benchmarks demo $(if $(AUDIO),--audio "$(AUDIO)")

test: lint
	$(BIN)/python -m pytest -n 3 $(PYTEST_ARGS)

test-fast: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -n 2 -m "not slow" -q $(PYTEST_ARGS)

test-lowest: .venv-lowest/stamp
	.venv-lowest/bin/python -m pytest -n 2 -m "not slow" -q tests/clara_search tests/indexer $(PYTEST_ARGS)

coverage: .venv/dev.stamp
	$(BIN)/python -m pytest -n 2 --cov --cov-report=term-missing:skip-covered $(PYTEST_ARGS)

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/dev.stamp
	$(BIN)/mkdocs build --quiet

bench: .venv/dev.stamp
	$(BIN)/python -m benchmarks search
	$(BIN)/python -m benchmarks indexing --data "$(DATA)"
	$(BIN)/python -m benchmarks retrieval --data "$(DATA)"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "clara-search needs Python 3.11 or newer; $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12" >&2; exit 1; }
	@echo "Making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv

.venv/demo.stamp: $(DEFINITION) | $(BIN)/python
	@echo "Installing clara-search into .venv (about 1.6 GB; a minute or more the first time)"
	@$(PIP) --editable '.[demo]'
	@touch $@

.venv/dev.stamp: $(DEFINITION) | $(BIN)/python
	@echo "Installing clara-search and its tools into .venv (about 2.3 GB; a minute or more the first time)"
	@$(PIP) --editable '.[dev]'
	@touch .venv/demo.stamp $@

# torch stays at the tested version: older ones are other gigabytes, and no interface that we use has changed since.
.venv-lowest/stamp: $(DEFINITION) | $(BIN)/python
	@echo "Installing the oldest versions that pyproject.toml allows into .venv-lowest"
	@$(PYTHON) -m venv .venv-lowest
	@.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) uv
	@grep '^torch==' constraints.txt > .venv-lowest/torch.txt
	@.venv-lowest/bin/uv pip install --quiet --python .venv-lowest --resolution lowest-direct \
		--override .venv-lowest/torch.txt --editable '.[clap,pandas,profile,s3]'
	@.venv-lowest/bin/uv pip freeze --quiet --python .venv-lowest --exclude-editable > .venv-lowest/lowest.txt
	@.venv-lowest/bin/uv pip install --quiet --python .venv-lowest --constraint .venv-lowest/lowest.txt \
		hypothesis librosa 'moto[server]' pytest pytest-timeout pytest-xdist torchmetrics
	@touch $@

clean:
	rm -rf .venv .venv-lowest demo-data build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
