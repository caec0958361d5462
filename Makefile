# `make ask` asks a procedural slide a question; `make test` runs the suite. Both make .venv first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DEMO   := demo

.PHONY: ask test test-all lint docs bench clean

# torch first and pinned: left to a range, pip may choose a build with gigabytes of CUDA libraries.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "$$(grep '^torch==' constraints.txt)"

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@

$(VENV)/.installed-docs: pyproject.toml constraints.txt $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@

$(DEMO)/slide.tiff: $(VENV)/.installed
	$(BIN)/giant phantom --demo --out $(DEMO) --seed 1

ask: $(DEMO)/slide.tiff
	$(BIN)/giant ask $(DEMO)/slide.tiff "What is the diagnosis?"

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-all: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-docs
	$(BIN)/mkdocs build --quiet --strict

bench: $(DEMO)/slide.tiff
	$(BIN)/giant bench startup
	$(BIN)/giant bench ask --slide $(DEMO)/slide.tiff

clean:
	rm -rf $(VENV) $(DEMO) giant-bench build ./*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
