# Two commands do all the set-up: `make run` and `make test`. `make help` explains every target.
#
# Needs Python 3.11 or newer with pip, nothing else. The environment is made in .venv; a stamp in it remembers
# that everything is installed, so that running a target again costs nothing.

# The first Python that runs, is new enough and has pip; `make run PYTHON=/path/to/python3.12` takes another.
ifndef PYTHON
PYTHON := $(shell for name in python3 python3.11 python3.12 python3.13; do \
	$$name -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
endif
VENV   ?= .venv
# torch is installed first and by itself: on a machine without a GPU this version comes as a small CPU build where
# pip is set up for it, while a plain `torch` would fetch several GB of CUDA. With a GPU: `make run TORCH=torch`.
TORCH  ?= torch==2.13.0
# Processes that share the tests, each with one thread of torch: as many as cores, up to 8; `make test WORKERS=0`
# runs them in pytest's own.
WORKERS ?= logical
# More arguments for what a target runs: `make run ARGS="stage=nullu+dare"`, `make test ARGS="tests/ops -x"`.
ARGS   ?=

BIN   := $(VENV)/bin
PIP   := $(PYTHON) -m pip --python $(BIN)/python --disable-pip-version-check
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install run test long lint format bench attack kill audit train clean

help:  ## Show this list
	@echo "Targets:"
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "Settings:  PYTHON=$(PYTHON)  VENV=$(VENV)  TORCH=$(TORCH)  WORKERS=$(WORKERS)  ARGS=\"$(ARGS)\""
	@echo "Example:   make run ARGS=\"stage=nullu+dare stage.dare.target_sparsity=0.7\""

install: $(STAMP)  ## Make the environment in .venv and install everything into it (about two minutes, once)

run: $(STAMP)  ## Compress the built-in CLIP on the built-in data; the result goes to outputs/<date>/<time>
	$(BIN)/rcc-run $(ARGS)

test: $(STAMP)  ## Run the tests
	$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist worksteal $(ARGS)

long: $(STAMP)  ## Run the tests that take long, which `make test` leaves out
	$(BIN)/python -m pytest -m long $(ARGS)

lint: $(STAMP)  ## Check style, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)  ## Put the source into the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)  ## Compress ViT-B/32 shapes and report the peak memory and the time against a memory copy
	$(BIN)/python benchmarks/vit_b32_cascade.py $(ARGS)

attack: $(STAMP)  ## Try hostile inputs of eight classes; ARGS="--seed 1 --count 20" draws others or fewer
	$(BIN)/python scripts/attack $(ARGS)

kill: $(STAMP)  ## Kill a search of six trials at 20 points, resume each and compare; ARGS="--trials 4 --points 5" is less
	$(BIN)/python scripts/kill_sweep.py $(ARGS)

audit: $(STAMP)  ## Look up known vulnerabilities of what is installed, where the network allows
	$(PYTHON) scripts/audit.py $(BIN)/python

train: $(STAMP)  ## Train the built-in CLIP again, from scratch
	$(BIN)/rcc-run job=train $(ARGS)

clean:  ## Remove the environment, builds and caches; outputs/ and multirun/ stay
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Some systems ship Python without ensurepip; the environment then does without a pip of its own, and the pip
# outside installs into it.
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer with pip was found: install one, or give PYTHON=<path>."; exit 1; }
	$(PYTHON) -m venv --without-pip $(VENV)

$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install "$(TORCH)"
	$(PIP) install -c constraints.txt -e ".[dev]"
	$(BIN)/python -m compileall -q rcc hydra_plugins
	@touch $@
