# medwvae: `make demo` runs the main job on a synthetic cohort, `make test` the tests. Both set up what they need.
VENV ?= .venv
PYTHON ?= python3
CORES ?= 2
BIN = $(VENV)/bin
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: demo test test-slurm docs lint format setup clean help

help:
	@echo "make demo   set up, run DICOM -> report on a synthetic cohort (offline, CPU)"
	@echo "make test   set up, run the tests with coverage"
	@echo "make test-slurm   as root on Debian: install and start a SLURM of one node, run a small demo through it"
	@echo "make docs   set up, build the documentation into build/site"
	@echo "make lint   ruff, snakefmt, mypy"
	@echo "make clean  remove the environment and results/demo"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("medwvae needs Python 3.11 or newer: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs,slurm]'
	@touch $@ $(VENV)/.run

setup: $(VENV)/.dev

demo: $(VENV)/.run
	snakemake --cores $(CORES) --workflow-profile workflows/profiles/local --configfile configs/demo.yaml --quiet
	@echo "Open results/demo/report.html in a browser."

test: $(VENV)/.dev
	OMP_NUM_THREADS=1 python -m pytest -n $(CORES) --dist loadgroup --cov --cov-report=term --durations=10

test-slurm: $(VENV)/.dev
	OMP_NUM_THREADS=1 MEDWVAE_TEST_SLURM=1 python -m pytest -s tests/slurm

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 mkdocs build --config-file docs/site/mkdocs.yml
	@echo "Open build/site/index.html in a browser."

lint: $(VENV)/.dev
	ruff format --check .
	ruff check .
	snakefmt --check Snakefile workflows/rules
	mypy

format: $(VENV)/.dev
	ruff format .
	ruff check --fix .
	snakefmt Snakefile workflows/rules

clean:
	rm -rf $(VENV) results/demo
