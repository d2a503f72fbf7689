# AgentHub: `make demo` and `make test` need Python 3.11 or newer with pip and venv, make and gcc.
# Nothing is installed outside .venv and .tox.
.DEFAULT_GOAL := help
.PHONY: help demo test clean

# Choose an interpreter with `make test PYTHON=/path/to/python`; else the first here that is new enough.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)

BIN := .venv/bin
PACKAGES := -e . $(patsubst %/setup.cfg,-e ./%,$(wildcard plugins/*/setup.cfg))
DECLARATIONS := setup.cfg pyproject.toml $(wildcard plugins/*/setup.cfg plugins/*/pyproject.toml)

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-6s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/.installed ## show one question through each dialect and each adapter, then serve on :9090
	$(BIN)/agenthub demo

test: .venv/.tox-installed .tox/.fresh ## run the whole check: tests on each Python found, lint, types, packages
	$(BIN)/tox

clean: ## remove what the other targets made
	rm -rf .venv .tox build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	rm -rf *.egg-info plugins/*/*.egg-info plugins/*/build plugins/*/dist
	find agenthub bench plugins tests -name __pycache__ -prune -exec rm -rf {} +

# A .venv without a working pip (Debian without python3-venv leaves one) is made again.
.venv/.installed: $(DECLARATIONS)
	@test -n "$(PYTHON)" || { echo "AgentHub needs Python 3.11 or newer, and none was found. Name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is not a Python 3.11 or newer. Name another: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(BIN)/pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PACKAGES)
	@touch $@

.venv/.tox-installed: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'tox>=4.60'
	@touch $@

# tox does not see that the requirements of an editable changed, so its environments start anew when they do.
.tox/.fresh: $(DECLARATIONS) tox.ini
	rm -rf .tox
	@mkdir -p .tox && touch $@
