# Each of these does the set-up that it needs, says what it waits for, and can be interrupted and run again.
# Options: PYTHON=/path/to/python3.11, MIN_FREE_GB=2, OUT=folder of the demo, ARGS="more arguments for pytest or bench".

PY := .venv/bin/python
PYTEST := $(PY) -m pytest
OUT ?= demo
SCRIPTS := $(wildcard scripts/*.py benchmarks/*.py benchmarks/*/*.py)

# What runs here reports to nobody, and a file of the working folder never hides a package.
export MLFLOW_DISABLE_TELEMETRY := true
export RAY_USAGE_STATS_ENABLED := 0
export STREAMLIT_BROWSER_GATHER_USAGE_STATS := false
export DO_NOT_TRACK := true
export PYTHONSAFEPATH := 1

.PHONY: help setup demo test test-all test-cluster root acceptance check lint format docs bench lock clean
.NOTPARALLEL:

help:
	@echo "make setup       .venv with all that is needed: 6 to 15 min the first time, seconds afterwards"
	@echo "make demo        a sweep and an ensemble on synthetic images, both tasks, at most 8 min, into $(OUT)/"
	@echo "make test        all tests but the minutes-long ones"
	@echo "make test-all    every test: those of make test, acceptance, the long ones; as root also root and test-cluster"
	@echo "make root        the tests that only root can run: small disks, namespaces"
	@echo "make test-cluster  faults of a cluster, tried on three hosts made of namespaces (root), at most 15 min"
	@echo "make check       format, lint, types, fast tests: before each commit"
	@echo "make acceptance  the minutes-long tests on real images"
	@echo "make bench       every benchmark; writes docs/benchmarks.json and docs/benchmarks.md"
	@echo "make format      formats and sorts imports"
	@echo "make docs        writes the tables of docs/models.md and docs/training.md from the code"
	@echo "make lock        writes requirements.lock anew from pyproject.toml"
	@echo "make clean       removes .venv and .setup"

setup:
	@python=$$(PYTHON="$(PYTHON)" sh scripts/find_python.sh) && PYTHONSAFEPATH= "$$python" scripts/set_up.py \
	    $(if $(PYTHON),--this-python) $(if $(MIN_FREE_GB),--min-free-gb $(MIN_FREE_GB))

demo: setup
	.venv/bin/segsweep demo --out "$(OUT)"

test test-all test-cluster root acceptance check bench: export OMP_NUM_THREADS := 1

test: setup
	$(PYTEST) -m "not long and not acceptance and not root and not lab" $(ARGS)

test-all: setup
	$(PYTEST) -m "not root and not lab" $(ARGS)
	[ "$$(id -u)" != 0 ] || $(MAKE) root test-cluster

test-cluster: setup
	$(PYTEST) tests/cluster -m lab -v --session-timeout=900 $(ARGS)

root: setup
	$(PYTEST) -m root $(ARGS)

acceptance: setup
	$(PYTEST) -m acceptance $(ARGS)

check: lint
	$(PYTEST) -m "not slow and not long and not acceptance and not root and not lab" $(ARGS)

lint: setup
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) -m mypy $(SCRIPTS)

format: setup
	$(PY) -m ruff check --fix-only .
	$(PY) -m ruff format .

docs: setup
	$(PY) scripts/measure_models.py $(ARGS)
	$(PY) scripts/write_docs.py

bench: setup
	$(PY) benchmarks/run_all.py $(ARGS)

lock: setup
	.setup/uv/bin/uv pip compile pyproject.toml --quiet --universal --all-extras --no-annotate --no-header \
	    --output-file requirements.lock

clean:
	rm -rf .venv .setup
