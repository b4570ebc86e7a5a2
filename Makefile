# Two commands: `make demo` shows the main job, `make test` runs every test. Both set up what they need.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo demo-local test lint types format docs lock bench clean

help:
	@echo "make demo    the GitHub App on a double of GitHub: an issue becomes a reviewed pull request"
	@echo "make demo-local  the same on a local repository, by \`devflow run\`"
	@echo "make test    every test"
	@echo "make lint    ruff: rules and format"
	@echo "make types   mypy, strict"
	@echo "make format  ruff, writing"
	@echo "make docs    the tables in docs/ that are made from the code"
	@echo "make bench   speed, as medians and ratios"
	@echo "make lock    compile the pinned requirements anew (needs uv)"

$(VENV)/runtime: requirements/runtime.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Devflow needs Python 3.11 or later; set PYTHON=/path/to/python3" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@echo "Installing pinned requirements into $(VENV) (once, about a minute) ..."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes --requirement requirements/runtime.txt
	@site=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') && echo "$(CURDIR)" > "$$site/devflow.pth"
	@printf '#!/bin/sh\nexec "%s" -P -m app.cli "$$@"\n' "$(CURDIR)/$(BIN)/python" > $(BIN)/devflow && chmod +x $(BIN)/devflow
	@touch $@

$(VENV)/dev: $(VENV)/runtime requirements/dev.txt
	@echo "Installing what the tests and checks need into $(VENV) (once) ..."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes --requirement requirements/dev.txt
	@touch $@

demo: $(VENV)/runtime
	@$(BIN)/python -m demo

demo-local: $(VENV)/runtime
	@$(BIN)/python -m demo.local

test: $(VENV)/dev
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n auto $(PYTEST_ARGS)

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev
	$(BIN)/mypy

format: $(VENV)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/runtime
	@$(BIN)/python -m app.reference

bench: $(VENV)/dev
	$(BIN)/python -m bench

lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-strip-extras --no-header --no-annotate pyproject.toml -o requirements/runtime.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-strip-extras --no-header --no-annotate --extra dev pyproject.toml -o requirements/dev.txt

clean:
	rm -rf $(VENV) .demo build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
