# What can be done with a checkout of eram. Needs git, make and Python 3.11 or later; `build` and
# `install` need no Python, for they also run on database servers.

PYTHON    ?= python3
PG_CONFIG ?= pg_config
PG        ?=
ARGS      ?=
PEERS     ?=
MINUTES   ?=

VERSION := $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" eram.control)
SQL     := $(addprefix extension/,$(shell sed 's/\#.*//' extension/load-order))
SCRIPT  := build/eram--$(VERSION).sql
PLAIN   := build/eram.plain.sql
UPGRADES = $(wildcard extension/upgrades/eram--*.sql)

VENV      := .venv
VENV_DONE := $(VENV)/done
PY        := $(VENV)/bin/python
MATRIX    := 14 15 16 17 18

# Tests run on the embedded server, or on the one that PG (a major version) or ERAM_TEST_PG_BIN
# (the folder of its programs) names.
PYTEST = $(if $(PG),bin=$$($(PY) tests/servers.py $(PG)) && ERAM_TEST_PG_BIN="$$bin") \
	$(PY) -m pytest

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-matrix test-sql test-python lint format build wheel install uninstall \
	bench chaos fuzz soak nightly clean

help: ## List what make can do
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | awk -F '\t' '{ printf "make %-12s %s\n", $$1, $$2 }'

demo: $(VENV_DONE) ## Run a census of real code, on a server of its own
	@$(PY) examples/census $(ARGS)

test: $(VENV_DONE) ## Run the tests (PG=15 on that PostgreSQL, ARGS='-k name' for a part)
	$(PYTEST) $(ARGS)

test-matrix: $(MATRIX:%=test-on-%) ## Run the tests on every supported PostgreSQL

test-on-%: $(VENV_DONE)
	@$(MAKE) --no-print-directory test PG=$*

test-sql: $(VENV_DONE) ## Run the tests of the SQL
	$(PYTEST) tests/sql tests/guard $(ARGS)

test-python: $(VENV_DONE) ## Run the tests of the Python runtime
	$(PYTEST) tests/python $(ARGS)

lint: $(VENV_DONE) ## Check style and types
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	set -e; for folder in tests examples/census bench; do \
		$(PY) -m mypy --config-file tests/mypy.ini $$folder; done

format: $(VENV_DONE) ## Put the Python files into their form
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

build: $(SCRIPT) $(PLAIN) ## Make the install scripts in build/

# The script of an extension must not replace what someone else has put in its way.
CREATE = sed -E 's/^create or replace (function|view|procedure)/create \1/'

$(SCRIPT): extension/header.sql $(SQL)
$(PLAIN): extension/plain-header.sql extension/plain-path.sql $(SQL) extension/plain-footer.sql
$(SCRIPT) $(PLAIN): extension/load-order eram.control Makefile
	@mkdir -p build
	cat $(filter %.sql,$^) | $(CREATE) > $@

wheel: $(VENV_DONE) ## Make the Python package in dist/
	$(PY) -m pip wheel --quiet --no-deps --wheel-dir dist .

# With PGXS the extension's own small makefile does it; it is written beside the scripts.
PGXS = $(shell $(PG_CONFIG) --pgxs)
TO   = $(DESTDIR)$(shell $(PG_CONFIG) --sharedir)/extension

install: build need-pg-config ## Install the extension into the server of PG_CONFIG
	$(if $(wildcard $(PGXS)),$(call by_pgxs,install),$(copy))

uninstall: build need-pg-config ## Remove the extension's files from the server of PG_CONFIG
	$(if $(wildcard $(PGXS)),$(call by_pgxs,uninstall),$(remove))

define by_pgxs
cp eram.control $(UPGRADES) build/
printf '%s\n' 'EXTENSION = eram' 'DATA = $(notdir $(SCRIPT) $(UPGRADES))' 'include $$(PGXS)' \
	> build/Makefile
$(MAKE) --no-print-directory -C build $(1) PGXS="$(PGXS)" PG_CONFIG="$(PG_CONFIG)" \
	DESTDIR="$(DESTDIR)"
endef

define copy
mkdir -p "$(TO)"
for file in eram.control $(SCRIPT) $(UPGRADES); do \
	cp "$$file" "$(TO)/" && chmod 644 "$(TO)/$${file##*/}" || exit 1; \
done
endef

define remove
rm -f $(foreach file,eram.control $(SCRIPT) $(UPGRADES),"$(TO)/$(notdir $(file))")
endef

.PHONY: need-pg-config
need-pg-config:
	@command -v "$(PG_CONFIG)" > /dev/null || { \
		printf '%s\n' "There is no $(PG_CONFIG) here: say PG_CONFIG=/path/to/pg_config." >&2; exit 1; }

bench: $(VENV_DONE) ## Measure speed on the embedded server (PEERS="graphile pgboss" beside it)
	@$(PY) bench --peers "$(PEERS)" $(ARGS)

chaos: $(VENV_DONE) ## Do harm by a schedule from a seed, and judge (MINUTES=10, ARGS='--seed 7')
	@$(if $(PG),bin=$$($(PY) tests/servers.py $(PG)) && ERAM_TEST_PG_BIN="$$bin") PYTHONPATH=tests \
		$(PY) -m chaos $(if $(MINUTES),--minutes "$(MINUTES)") $(ARGS)

fuzz: $(VENV_DONE) ## Call every function with every kind of value (MINUTES=60; 1 otherwise)
	@$(PY) tests/attacks/fuzzer.py --seconds $$(( 60 * $(or $(MINUTES),1) )) $(ARGS)

soak: $(VENV_DONE) ## Keep up a steady load and judge (MINUTES=60; 3 otherwise)
	@PYTHONPATH=bench $(PY) -m soak $(if $(MINUTES),--minutes "$(MINUTES)") $(ARGS)

nightly: $(VENV_DONE) ## Run everything, also what takes long
	@$(MAKE) --no-print-directory lint build test-matrix
	$(PYTEST) -m nightly $(ARGS) || [ $$? -eq 5 ]
	@$(MAKE) --no-print-directory demo bench soak
	@$(MAKE) --no-print-directory chaos fuzz MINUTES=10

clean: ## Remove everything that make has made
	rm -rf $(VENV) .servers build dist bench/environments .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One virtual environment for everything, made anew whenever what it must hold has changed.
$(VENV_DONE): pyproject.toml
	@command -v "$(PYTHON)" > /dev/null || { \
		printf '%s\n' "There is no $(PYTHON) here: say PYTHON=/path/to/python3." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		printf '%s\n' "eram needs Python 3.11 or later, and $(PYTHON) is $$("$(PYTHON)" --version)." \
			"If there is another one, say PYTHON=/path/to/it." >&2; exit 1; }
	@printf '%s\n' 'Setting up $(VENV), once...'
	@"$(PYTHON)" -m venv $(VENV) || { \
		printf '%s\n' "Python's venv is missing; on Debian and Ubuntu: apt-get install python3-venv" >&2; \
		exit 1; }
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(PY) -m pip install -qq --editable '.[dev]'
	@touch $@
