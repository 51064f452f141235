# Tieout on one machine: needs Python 3.11 and make, nothing else. Everything it makes lies in .tieout.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3.11
PAYMENTS_PER_DAY ?= 2000
SEED ?= 1
TESTS ?= tests

VENV := .tieout/venv
BIN := $(VENV)/bin
# uv installs in a quarter of pip's time; pip does it when uv cannot be had.
UV := uv==0.13.9
# A venv is good for exactly these pins, wherever the clock says they were checked out.
RUNS := $(VENV)/runs-$(shell cat requirements.txt pyproject.toml | cksum | cut -d' ' -f1)
TESTED := $(VENV)/tests-$(shell cat requirements.txt requirements-dev.txt pyproject.toml | cksum | cut -d' ' -f1)

# $(call install,ARGUMENTS): into the venv, by uv or else by pip. uv does not read pip's settings: hand over its index.
define install
index="$$($(BIN)/python -m pip config get global.index-url 2>/dev/null || true)"; \
if [ -n "$$index" ] && [ -z "$${UV_DEFAULT_INDEX:-}" ]; then export UV_DEFAULT_INDEX="$$index"; fi; \
{ [ -x $(BIN)/uv ] && $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python $(1); } \
|| { echo "installing with pip"; $(BIN)/python -m pip install --quiet --disable-pip-version-check $(1); }
endef

.PHONY: help run up status test lint docs bench bench-extract bench-files bench-match faults fuzz oracle mutants requirements clean

help: ## show this help
	@echo "Tieout: every payment tied out, from ledger to processor to bank, or explained."
	@echo
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14 | sed 's/^/  make /'
	@echo
	@echo "  PAYMENTS_PER_DAY=$(PAYMENTS_PER_DAY) SEED=$(SEED)   size and seed of the sandbox that make run creates"

run: $(RUNS) ## the sandbox's days through Airflow to proven, published books; again: checks and shows them
	@$(BIN)/tieout run --payments-per-day $(PAYMENTS_PER_DAY) --seed $(SEED)

up: $(RUNS) ## serve the Airflow UI and the docs site until Ctrl-C
	@$(BIN)/tieout up

status: $(RUNS) ## show the books as they stand
	@$(BIN)/tieout status

test: lint ## lint, then every test, in two processes (TESTS=tests/plugins for some)
	$(BIN)/python -m pytest -n $(or $(PROCESSES),2) $(TESTS)

lint: $(TESTED) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(RUNS) ## build the docs site into .tieout/docs
	@$(BIN)/tieout docs

bench: bench-extract bench-files bench-match ## every benchmark; one alone: make bench-extract ROWS=5000000 ROUNDS=3

bench-extract: $(TESTED) # against psql, dlt, sling and ingestr
	@PYTHONPATH=plugins $(BIN)/python tests/bench/extract/bench.py --rows $(or $(ROWS),5000000) \
	  --rounds $(or $(ROUNDS),3) --peers .tieout/bench --table tests/bench/extract/results.md

bench-files: $(TESTED) # against a bare COPY of the same file
	@PYTHONPATH=plugins $(BIN)/python tests/bench/files/bench.py --lines $(or $(ROWS),2000000) \
	  --rounds $(or $(ROUNDS),3) --table tests/bench/files/results.md

# MODE=speed PAYMENTS=1000000: a million items with a million, against a join by hand; MODE=year: day 365 against day 30.
# TABLE=tests/bench/match/results.md (speed.md, year.md) writes the figures down; JOBS=2 plays two worlds at a time.
bench-match: $(TESTED) # planted breaks found again, against a full outer join and datacompy
	@PYTHONPATH=plugins:. $(BIN)/python -m tests.bench.match --mode $(or $(MODE),match) --payments $(or $(PAYMENTS),100000) \
	  --seeds "$(or $(SEEDS),1 2 3 4 5)" --draw $(or $(DRAW),5) --rounds $(or $(ROUNDS),3) --jobs $(or $(JOBS),1) \
	  $(if $(CLOSES),--closes $(CLOSES)) $(if $(TABLE),--table $(TABLE))

faults: $(TESTED) ## the long fault runs: late commits, full disks, capped memory, every failpoint by every fault
	TIEOUT_FAULTS=long TIEOUT_LATE_COMMITS=10000 TIEOUT_CAPPED_ROWS=5000000 TIEOUT_CAPPED_LINES=1000000 \
	  $(BIN)/python -m pytest tests/faults/test_*load*.py tests/faults/test_extraction_faults.py \
	  tests/faults/test_connection_faults.py tests/faults/test_full_disk.py tests/faults/test_memory.py tests/faults/test_proof_can_fail.py \
	  tests/plugins/test_landing.py tests/plugins/test_file_versions.py tests/dbt/test_reclose.py

fuzz: $(TESTED) ## damage thousands of files of every format; TIEOUT_FUZZ_SEED=N repeats a run
	TIEOUT_FUZZ_EXAMPLES=$(or $(EXAMPLES),500) $(BIN)/python -m pytest -s tests/plugins/files/test_fuzz.py

oracle: $(TESTED) ## judge many random worlds beside the SQL; TIEOUT_ORACLE_SEED=N repeats a run
	TIEOUT_ORACLE_WORLDS=$(or $(WORLDS),40000) $(BIN)/python -m pytest -s tests/dbt/test_oracle.py

mutants: $(TESTED) ## put faults into the SQL, one at a time, and print who notices (MUTANTS="window fees" for some)
	@PYTHONPATH=plugins:. $(BIN)/python -m tests.mutants $(MUTANTS)

clean: ## stop the server and remove everything that was made
	@if [ -x $(BIN)/tieout ]; then $(BIN)/tieout clean --yes; fi
	rm -rf .tieout dbt_project/target dbt_project/logs plugins/tieout.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find plugins dags tests -name __pycache__ -type d -prune -exec rm -rf {} +

requirements: $(TESTED) ## resolve the pins anew from pyproject.toml
	@resolve() { $(BIN)/uv pip compile --quiet --python-version 3.11 --no-emit-index-url --no-header --no-annotate "$$@"; }; \
	resolve --group dev pyproject.toml --upgrade -o .tieout/all.txt; \
	{ echo "# Exact versions of everything that runs; made by: make requirements"; \
	  resolve pyproject.toml -c .tieout/all.txt; } > .tieout/runs.txt; \
	{ echo "# Exact versions of the test tools, on top of requirements.txt; made by: make requirements"; \
	  echo "-r requirements.txt"; resolve --group dev -c .tieout/all.txt | grep -vxFf .tieout/runs.txt; } > .tieout/tests.txt; \
	mv .tieout/runs.txt requirements.txt; mv .tieout/tests.txt requirements-dev.txt

$(RUNS): | requirements.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: install it, or name it with PYTHON=..." >&2; exit 2; }
	@if [ ! -x $(BIN)/python ]; then echo "making the virtual environment"; $(PYTHON) -m venv $(VENV); \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(UV) || true; fi
	@echo "installing the pinned packages"
	@$(call install,-r requirements.txt)
	@$(call install,--no-deps --editable .)
	@rm -f $(VENV)/runs-* && touch $@

$(TESTED): | $(RUNS) requirements-dev.txt
	@echo "installing the test tools"
	@$(call install,-r requirements-dev.txt)
	@rm -f $(VENV)/tests-* && touch $@
