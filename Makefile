# One verb a job. Each sets up what it needs in .venv; only Python is required (a C++ compiler makes training faster).
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DELETE_ON_ERROR:
.PHONY: demo test test-all check fix bench docs clean

demo: $(VENV)/.demo          ## train a small model on the built-in stories and tell one
	$(BIN)/storylm demo

test: $(VENV)/.dev           ## run the tests
	$(BIN)/python -m pytest -q -m "not slow and not gpu and not network" -n 2

test-all: $(VENV)/.all       ## run the slow ones too, with other programs that read exports and ask the server
	STORYLM_TEST_ALL=1 $(BIN)/python -m pytest -m "not gpu and not network"

check: $(VENV)/.dev          ## format, lint, types, floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports

fix: $(VENV)/.dev            ## put right what can be put right by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev          ## compare with the peers; results as JSON in benchmarks/results
	$(BIN)/python benchmarks/encoding.py
	$(BIN)/python benchmarks/batching.py
	$(BIN)/python benchmarks/memory.py --plot docs/images/memory.png
	$(BIN)/python benchmarks/train.py

docs: $(VENV)/.dev           ## write the tables in README.md and docs/ anew from the code
	$(BIN)/python docs/build.py

clean:                       ## remove what the verbs above made
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
		{ echo "$(PYTHON) is no Python 3.11, 3.12 or 3.13: name one, as in make demo PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	$(PIP) -e '.[report]'
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(PIP) -e '.[dev]'
	touch $@

$(VENV)/.all: pyproject.toml | $(VENV)/bin/python
	$(PIP) -e '.[dev,llama-cpp,lens,harness,client]'
	touch $@ $(VENV)/.dev
