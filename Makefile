# One command each; everything they install goes into .venv, but Debian's chromium for `make test`.
#
#   make demo                       a sick network on real data, its diagnosis, the page until Ctrl-C
#   make demo ARGS=--no-dashboard   the same, ending after the diagnosis
#   make demo ARGS=healthy          another demo
#   make test                       lint, format, types, and all tests
#   make test ARGS='-k store'       some of the tests
#   make bench                      what watching costs
#   make picture                    takes the README's picture anew
#   make clean                      forgets .venv

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install --constraint constraints.txt
CHROMIUM := $(or $(GRADSCOPE_CHROMIUM),/usr/bin/chromium)
ARGS ?=

.PHONY: help demo test bench picture clean chromium
.DELETE_ON_ERROR:

help:
	@sed -n 's/^#   //p' Makefile

demo: $(VENV)/.demo
	@$(BIN)/gradscope demo $(ARGS)

test: $(VENV)/.test chromium
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(ARGS)

bench: $(VENV)/.test
	@$(BIN)/python tests/bench.py $(ARGS)

picture: $(VENV)/.test chromium
	@$(BIN)/python -m tests.dashboard.picture

clean:
	rm -rf $(VENV)

# The stamps: made again when a version changes.

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "GradScope needs Python 3.10 or newer. Here '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)." >&2; \
		echo "Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "'$(PYTHON)' cannot make a virtual environment: its venv or ensurepip module is missing." >&2; \
		echo "On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Making $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# torch first and by its exact version: left to itself, pip may look through other builds of several gigabytes.
$(VENV)/.torch: $(VENV)/.made constraints.txt
	@echo "Installing torch and the build backend (the first time this takes minutes) ..."
	@$(PIP) torch hatchling
	@touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	@echo "Installing GradScope and what the demos need ..."
	@$(PIP) --no-build-isolation --editable '.[demo]'
	@touch $@

$(VENV)/.test: $(VENV)/.torch pyproject.toml
	@echo "Installing GradScope and what the tests need ..."
	@$(PIP) --no-build-isolation --editable '.[test]'
	@touch $@

chromium:
	@test -x "$(CHROMIUM)" || { \
		if [ -n "$(GRADSCOPE_CHROMIUM)" ] || ! command -v apt-get >/dev/null; then sudo=missing; \
		elif [ "$$(id -u)" = 0 ]; then sudo=; \
		elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo='sudo -n'; \
		else sudo=missing; fi; \
		if [ "$$sudo" = missing ]; then \
			echo "The tests open the page in a real browser, and there is none at $(CHROMIUM)." >&2; \
			echo "Install chromium (Debian: apt-get install chromium), or say where it is: GRADSCOPE_CHROMIUM=/path make test" >&2; \
			exit 1; \
		fi; \
		echo "Installing chromium ..."; \
		$$sudo apt-get update -qq && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null \
			&& test -x "$(CHROMIUM)"; }
