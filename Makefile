# What can be done with a checkout of eram. Needs git, make and Python 3.11 or later; `build` and
# `install` need no Python, for they also run on database servers.

PYTHON    ?= python3
PG_CONFIG ?= pg_config
PG        ?=
ARGS      ?=
PEERS     ?=
MINUTES   ?=
DIST      ?= dist

VERSION := $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" eram.control)
SQL     := $(addprefix extension/,$(shell sed 's/\#.*//' extension/load-order))
SCRIPT  := build/eram--$(VERSION).sql
PLAIN   := build/eram.plain.sql
UPGRADES = $(wildcard extension/upgrades/eram--*.sql)

VENV      := .venv
VENV_DONE := $(VENV)/done
PY        := $(VENV)/bin/python
MATRIX    := 14 15 16 17 18
PYTHONS   := 3.11 3.12 3.13 3.14

# Tests run on the embedded server, or on the one that PG (a major version) or ERAM_TEST_PG_BIN
# (the folder of its programs) names.
PYTEST = $(if $(PG),bin=$$($(PY) tests/servers.py $(PG)) && ERAM_TEST_PG_BIN="$$bin") \
	$(PY) -m pytest

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-matrix test-sql test-python test-pythons lint format all build wheel \
	sdist dist docs install uninstall bench chaos fuzz soak screenshots nightly clean

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

# Each in an environment of its own, one after the other; what is not found is told and passed by.
test-pythons: ## Run the tests of the Python runtime on every Python found (PYTHONS=3.13)
	@"$(PYTHON)" tests/pythons.py $(PYTHONS) > /dev/null
	@"$(PYTHON)" tests/pythons.py $(PYTHONS) 2> /dev/null | while read -r version python; do \
		echo "=== Python $$version: $$python"; mkdir -p .venvs; \
		$(MAKE) --no-print-directory test-python VENV=".venvs/$$version" PYTHON="$$python" \
			< /dev/null || exit 1; \
	done

lint: $(VENV_DONE) ## Check style and types
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	set -e; for folder in tests examples/census bench; do \
		$(PY) -m mypy --config-file tests/mypy.ini $$folder; done

format: $(VENV_DONE) ## Put the Python files into their form
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

docs: $(VENV_DONE) ## Build the documentation as a site in build/site
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

# What the clients of PGXN ask for.
all: build

build: $(SCRIPT) $(PLAIN) ## Make the install scripts in build/

# The script of an extension must not replace what someone else has put in its way.
CREATE = sed -E 's/^create or replace (function|view|procedure)/create \1/'

$(SCRIPT): extension/header.sql $(SQL)
$(PLAIN): extension/plain-header.sql extension/plain-path.sql $(SQL) extension/plain-footer.sql
$(SCRIPT) $(PLAIN): extension/load-order eram.control Makefile
	@mkdir -p build
	@cat $(filter %.sql,$^) | $(CREATE) > $@
	@echo $@

# Files of the time of their commit, so that the same commit makes the same packages.
COMMIT_TIME = $(shell git log -1 --format=%ct 2> /dev/null)
HATCH = $(if $(COMMIT_TIME),SOURCE_DATE_EPOCH=$(COMMIT_TIME)) $(PY) -m hatchling build -d $(DIST)

wheel: $(VENV_DONE) ## Make the Python package in dist/
	$(HATCH) -t wheel

sdist: $(VENV_DONE) ## Make the Python package's sources in dist/
	$(HATCH) -t sdist

# What is in the archive is what is committed, and the script that is built of it.
dist: $(VENV_DONE) build ## Make a release's files in dist/: for PGXN, and the Python packages
	@test -z "$$(git status --porcelain)" || { git status --short >&2; \
		printf '%s\n' "These changes would be missing: commit them first." >&2; exit 1; }
	@mkdir -p $(DIST)
	git archive --format=zip --output="$(DIST)/eram-$(VERSION).zip" \
		--prefix="eram-$(VERSION)/build/" --add-file="$(SCRIPT)" --prefix="eram-$(VERSION)/" HEAD
	$(HATCH) -t sdist -t wheel

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

screenshots: $(VENV_DONE) ## Take the pictures of the page for the documentation, with Chromium
	$(PY) tests/web/screenshots.py

nightly: $(VENV_DONE) ## Run everything, also what takes long
	@$(MAKE) --no-print-directory lint docs build test-matrix
	$(PYTEST) -m nightly $(ARGS) || [ $$? -eq 5 ]
	@$(MAKE) --no-print-directory demo bench soak
	@$(MAKE) --no-print-directory chaos fuzz MINUTES=10

clean: ## Remove everything that make has made
	rm -rf $(VENV) .venvs .servers build dist bench/environments .hypothesis .mypy_cache .pytest_cache .ruff_cache
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
