# Everything a newcomer runs. Each target makes what it needs; `make demo` is the place to begin.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint bench install clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

# Train a residual attention network on shapes drawn on the spot, then name what it sees in one of them.
demo: install
	$(BIN)/resattn train --recipe demo
	@echo 'Look at the newest folder under runs/: learning_curves.png, confusion.png, predictions.png'

test: install
	$(BIN)/python -m pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: install
	$(BIN)/python benchmarks/training_step.py --data shapes

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
