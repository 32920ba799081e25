# `make` lists the targets. Two commands need only Python, pip and make: `make demo` and `make test`.

PYTHON ?= python3
VENV ?= .venv
INPUT ?=
OUTPUT_DIR ?= results/demo
BUNDLE ?= bundles/brain_mri_super_resolution
STUDIES ?=
HOST ?= 127.0.0.1
PORT ?= 8000
LABEL_VENV ?= .venv-label
export INPUT OUTPUT_DIR STUDIES

BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
CORE := $(VENV)/.installed-core
DEV := $(VENV)/.installed-dev
LABEL := $(LABEL_VENV)/.installed-label
LABEL_PIP := $(LABEL_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	--no-warn-conflicts

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv bundles demo test test-slow test-label label-server named-studies lint check format train clean distclean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile
	@echo "  Settings: INPUT=scan.nii.gz OUTPUT_DIR=$(OUTPUT_DIR) PYTHON=$(PYTHON) VENV=$(VENV)"
	@echo "            STUDIES=folder-or-DICOMweb-address HOST=$(HOST) PORT=$(PORT) LABEL_VENV=$(LABEL_VENV)"

venv: $(DEV)  ## create the environment with the development tools

demo: $(CORE)  ## run the main job, on your own image with INPUT=scan.nii.gz
	@$(BIN)/medsr demo --output_dir "$$OUTPUT_DIR" $${INPUT:+--input "$$INPUT"}

test: $(DEV)  ## run the tests; those on real images need MEDSR_DATA
	@$(BIN)/python -m pytest -m "not slow" --numprocesses auto --dist worksteal --durations=10

test-slow: $(DEV)  ## run the slow tests as well
	@$(BIN)/python -m pytest --numprocesses auto --dist worksteal --durations=10

lint: $(DEV)  ## formatting, lint, types, import rooms
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

# The tests run every snippet of docs/, so they check the documentation too.
check: lint test  ## what CI runs: lint, then the tests with the documentation's snippets

format: $(DEV)  ## format the code and mend what lint can mend
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bundles: $(CORE)  ## write configs/ of every bundle from its bundle.json and bundles/shared/
	@$(BIN)/medsr bundle build

# Keeping freed memory saves the page faults of every step's large tensors.
train: export MALLOC_MMAP_THRESHOLD_ = 8589934592
train: export MALLOC_TRIM_THRESHOLD_ = 8589934592
train: $(CORE)  ## train the shipped weights again from the images in MEDSR_DATA (hours)
	@test -d "$$MEDSR_DATA" || { echo "make train: set MEDSR_DATA to a folder of images" >&2; exit 2; }
	@$(BIN)/python -m monai.bundle run --bundle_root $(BUNDLE) --dataset_dir "$$MEDSR_DATA/mri" \
		--config_file "['$(BUNDLE)/configs/train.json','$(BUNDLE)/configs/shipped_weights.json']"

label-server: named-studies $(LABEL)  ## serve the bundles with MONAI Label, on the images of STUDIES=folder or DICOMweb address
	@exec $(LABEL_VENV)/bin/python apps/monailabel/serve.py --studies "$$STUDIES" --host "$(HOST)" --port "$(PORT)"

# Before the installation, which takes minutes.
named-studies:
	@test -n "$$STUDIES" || { echo "make label-server: name the images, e.g. STUDIES=path/to/folder" >&2; exit 2; }

test-label: $(LABEL)  ## test the MONAI Label server, a real one, in its own environment
	@$(LABEL_PIP) pytest
	@$(LABEL_VENV)/bin/python -m pytest tests/apps/label --durations=5

clean:  ## remove results and caches
	@rm -rf results out build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -path ./$(VENV) -prune -o -path ./$(LABEL_VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## remove the environments too
	@rm -rf $(VENV) $(LABEL_VENV)

# A Python without ensurepip makes an environment without pip; the pip beside it then installs one there.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null \
		|| { echo "make: Python 3.10 or newer is needed; choose one with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 \
		|| { $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $@ install --quiet pip; } \
		|| { rm -rf $(VENV); \
			echo "make: $(PYTHON) cannot create an environment with pip; install its venv module (Debian: python3-venv)" >&2; exit 1; }

$(CORE): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing medsr-monai into $(VENV) (minutes the first time) ..."
	@$(PIP_INSTALL) --editable .
	@touch $@

# The larger installation serves the smaller one's purpose.
$(DEV): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing medsr-monai and the development tools into $(VENV) (minutes the first time) ..."
	@$(PIP_INSTALL) --editable '.[dev,export]'
	@touch $(CORE) $@

# MONAI Label without its dependencies: they would build sam2 and fetch gigabytes of CUDA; the list has what it imports.
$(LABEL): pyproject.toml constraints.txt apps/monailabel/requirements.txt
	@$(MAKE) --no-print-directory VENV=$(LABEL_VENV) $(LABEL_VENV)/bin/python
	@echo "Installing MONAI Label into $(LABEL_VENV) (minutes the first time) ..."
	@$(LABEL_PIP) --editable . --requirement apps/monailabel/requirements.txt
	@$(LABEL_PIP) --no-deps monailabel==0.8.5
	@touch $@
