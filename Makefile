# Every target installs what it needs by itself; `make` alone lists them.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help demo check test test-all coverage lint hooks constraints dist study study-quick docs doctor tensorboard clean install install-dev

# Containers often forbid Python to keep what it compiled; then each of the processes of a run or a test would compile it again.
unexport PYTHONDONTWRITEBYTECODE

# The first Python that really starts (a version manager's stand-in may exist and yet not run).
ifndef PYTHON
PYTHON := $(shell for p in python3.11 python3.12 python3.13 python3; do if $$p -c pass >/dev/null 2>&1; then echo $$p; break; fi; done)
endif
ifeq ($(OS),Windows_NT)
VENV_PYTHON := .venv/Scripts/python
else
VENV_PYTHON := .venv/bin/python
endif

define need_python
@if [ -z "$(PYTHON)" ]; then echo "error: no Python found; install Python 3.11, 3.12 or 3.13, or name one: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; fi
endef

define install
$(need_python)
@"$(PYTHON)" scripts/install.py
endef

define check_style
$(VENV_PYTHON) -m ruff check .
$(VENV_PYTHON) -m ruff format --check .
$(VENV_PYTHON) -m codespell_lib
$(VENV_PYTHON) scripts/words.py
$(VENV_PYTHON) -m mypy asym_lightning callbacks hydra_plugins $(wildcard *.py)
endef

# On two processes, each with one thread: most of the time of a test is work that one core does.
pytest = OMP_NUM_THREADS=1 $(VENV_PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: install  ## install, then train the embedded policy with AsymGRPO and vLLM rollouts
	$(VENV_PYTHON) train.py

check: install-dev  ## before each commit, minutes: lint, types, and the tests of single parts, of the configuration and of gradients
	$(check_style)
	$(pytest) -m "(unit or config or gradients) and not full"

test: install-dev  ## install, then lint, types and every test but the longest matrices; what CI runs
	$(check_style)
	$(pytest) -m "not full" --durations=25

test-all: install-dev  ## the same with the longest matrices: before a change is called complete
	$(check_style)
	$(pytest) --durations=25

coverage: install-dev  ## the share of lines that make test runs
	$(VENV_PYTHON) -m coverage erase
	OMP_NUM_THREADS=1 $(VENV_PYTHON) -m coverage run -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not full"
	$(VENV_PYTHON) -m coverage combine --quiet
	$(VENV_PYTHON) -m coverage report --skip-covered

lint: install-dev  ## lint, format, spelling and types only
	$(check_style)

hooks: install-dev  ## let git run lint, format, spelling and types before each commit
	$(VENV_PYTHON) -m pre_commit install

constraints:  ## install the newest allowed versions into a folder of their own, and write them to constraints/
	$(need_python)
	@"$(PYTHON)" scripts/constraints.py

dist: install-dev  ## build the wheel and the source archive of a release
	$(VENV_PYTHON) -m build

study-quick: install-dev  ## the study in short, minutes: three methods, their claims, docs/results/study_quick.md
	$(VENV_PYTHON) -m benchmarks.study --quick

study: install-dev  ## the whole study, hours; goes on where it was stopped: docs/results/study.md
	$(VENV_PYTHON) -m benchmarks.study

docs: install-dev  ## build the documentation; open site/index.html
	NO_MKDOCS_2_WARNING=1 $(VENV_PYTHON) -m mkdocs build --strict --quiet

doctor: install  ## check this machine: versions, memory, jail, rollout engine
	$(VENV_PYTHON) -m asym_lightning.doctor

tensorboard: install  ## show the runs under logs/ in TensorBoard
	$(VENV_PYTHON) -m tensorboard.main --logdir logs

install:  ## make .venv and install what a run needs
	$(install)

install-dev:  ## the same, and what the tests need
	$(install) --dev

clean:  ## remove .venv, caches and build products (runs under logs/ stay)
	rm -rf .venv build dist site .coverage .coverage.* *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
