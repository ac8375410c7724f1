# make search: a first search, end to end.   make test, make lint: what CI runs.   make env: the environment alone.
# make audit: whether a library that is installed has a hole that is known; asks PyPI.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: env search test test-runs test-search test-rest test-cuda lint audit format

env: $(INSTALLED)

# Installs again only when what is to be installed has changed.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,track,view]'
	touch $(INSTALLED)

search: env
	$(BIN)/python -m search.run --space dropout --trials 12 --epochs 6 --name first --ensemble

# Three parts at once, about as long: the tests that start searches mostly wait for Ray. Each part's output comes when it
# is done.
RUNS := $(patsubst %,tests/search/test_%.py,every_space run refit)
OTHERS := tests/search/test_confirm_in_run.py

test: env
	$(MAKE) --jobs=3 --keep-going --output-sync=target --no-print-directory test-runs test-search test-rest

test-runs: env
	$(BIN)/python -m tests $(RUNS)

test-search: env
	$(BIN)/python -m tests tests/search $(addprefix --ignore=,$(RUNS) $(OTHERS))

test-rest: env
	$(BIN)/python -m tests $(filter-out tests/search/,$(wildcard tests/*/)) $(wildcard tests/test_*.py) $(OTHERS)

test-cuda: env
	$(BIN)/python -m tests -m cuda

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# In an environment of its own: what it needs is no part of ours. --strict: a library that PyPI does not know is no pass.
audit:
	test -x .venv/audit/bin/python || $(PYTHON) -m venv .venv/audit
	.venv/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	.venv/audit/bin/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

format: env
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
