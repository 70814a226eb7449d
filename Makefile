# Every target sets itself up in .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Which tests, by their marks; one room has them in `.venv/bin/python -m pytest tests/method`.
MARKERS ?= not slow

.PHONY: env quickstart test test-slow lint format docs clean

env: $(VENV)/.complete

$(VENV)/.complete: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed; run make PYTHON=python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@

# The main job, offline, in a small generated world: pretraining, weak model, ceiling, students, controls.
# glibc takes memory in large pages: steps touch far fewer of them anew (docs/benchmarking.md).
quickstart: env
	GLIBC_TUNABLES=$${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1} $(BIN)/python -m selw2s_jax.main --config=configs/quickstart.py --workdir=runs/quickstart

test: env
	$(BIN)/python -m pytest -m "$(MARKERS)" --durations=8

# What `make test` leaves out. Tests that need more, as torch (.ci/run installs it), skip without it.
test-slow:
	$(MAKE) test MARKERS="torch or slow"

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: env
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The page of all keys of the config, from the defaults.
docs: env
	$(BIN)/python docs/config_page.py

clean:
	rm -rf $(VENV) build *.egg-info
