# Everything a newcomer runs. Each target makes what it needs; `make demo` is the place to begin.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test fuzz chaos lock audit lint bench install clean

install: $(VENV)/installed

# The newest releases that pyproject.toml allows; with LOCK=requirements.lock the very files that file names, by their hashes.
LOCK ?=
$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
ifeq ($(LOCK),)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
else
	$(BIN)/python -m pip install --quiet --require-hashes --requirement $(LOCK)
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
endif
	touch $@

# The lock anew, for all platforms and Pythons that are supported; `make audit` asks whether what it names has known holes.
lock: install
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --generate-hashes --no-emit-index-url --no-header \
		--quiet --output-file requirements.lock

audit: install
	$(BIN)/python -m pip install --quiet pip-audit
	$(BIN)/pip-audit --requirement requirements.lock --require-hashes --disable-pip

# Train a residual attention network on shapes drawn on the spot, and draw what it learnt.
demo: install
	$(BIN)/resattn train --recipe demo
	@echo 'Look at the newest folder under runs/: learning_curves.png, confusion.png, predictions.png, mistakes.png'

# A process for each core, and one thread in each: most tests are too small for two threads to help.
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

# Thousands of spoilt archives, recipes, weights and uploads, counted at the end; the suite runs a hundred of each.
CASES ?= 4000
fuzz: install
	OMP_NUM_THREADS=1 RESATTN_FUZZ_CASES=$(CASES) $(BIN)/python -m pytest tests/fuzzing tests/data/test_tiny_imagenet_fuzz.py

# Kills, full disks and other faults at moments drawn from a seed, counted at the end, and the tests that take long; the
# suite tries a few.
MOMENTS ?= 12
SEED ?= 0
chaos: install
	OMP_NUM_THREADS=1 RESATTN_CHAOS_MOMENTS=$(MOMENTS) RESATTN_CHAOS_SEED=$(SEED) $(BIN)/python -m pytest -n auto tests/chaos
	OMP_NUM_THREADS=1 RESATTN_CHAOS_MOMENTS=$(MOMENTS) $(BIN)/python -m pytest -n auto -m long --ignore tests/chaos

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The short form of the benchmarks, one after the other: tables, and their JSON under runs/benchmarks. On real images:
# make bench DATA=tiny-imagenet ARCHIVE=tiny-imagenet-200.zip. benchmarks/fine_tuning.py has no short form worth its
# name: it begins with weights that take 20 minutes to train, and says how.
DATA ?= shapes
bench: install
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/python benchmarks/step_efficiency.py --short --recipe laptop-20m --data $(DATA)
	$(BIN)/python benchmarks/input_pipeline.py --short --data $(DATA) $(if $(ARCHIVE),--archive $(ARCHIVE))
	$(BIN)/python benchmarks/small_maps.py --short
	$(BIN)/python benchmarks/inference.py --short
	$(BIN)/python benchmarks/server_load.py --short
	$(BIN)/python benchmarks/scaling.py --short
	$(BIN)/python benchmarks/communication.py --short
	$(BIN)/python benchmarks/huge_pages.py --short --data $(DATA)
	$(BIN)/python benchmarks/busy_neighbour.py --short --data $(DATA)
	$(BIN)/python benchmarks/attention56_against_pytorchcv.py --short
	$(BIN)/python benchmarks/accuracy_at_equal_time.py --short --data $(DATA) $(if $(ARCHIVE),--archive $(ARCHIVE))

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
