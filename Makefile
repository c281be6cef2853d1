# One command each; everything they install goes into .venv, but Debian's chromium for `make test`
# and its graphviz for `make bench`.
#
#   make demo                       a sick network on real data, its diagnosis, the page until Ctrl-C
#   make demo ARGS=--no-dashboard   the same, ending after the diagnosis
#   make demo ARGS=healthy          another demo
#   make test                       lint, format, types, and all tests
#   make test ARGS='-k store'       some of the tests
#   make zoo                        sick and healthy trainings: what is found, and what is said of the healthy
#   make zoo ARGS='--only D --show' some of them, with everything that is said; ARGS=--help tells more
#   make zoo ARGS=--cures           also tries what is suggested for the sick ones
#   make zoo ARGS='--benchmark --seeds 3'  how often the cause that is named first was right, into assets/benchmark.json
#   make zoo ARGS=--readme          all of them with their cures, into the README's table, and --benchmark
#   make bench                      what watching costs, beside others (a quarter of an hour)
#   make bench ARGS=--readme        the same, into the README's table
#   make bench ARGS=--soak          10,000 steps: does memory grow?
#   make screenshots                every page in both themes and three widths into build/, and the README's pictures
#   make docs                       docs/ anew from the code; a test fails where they differ
#   make examples                   records the packaged runs of the lessons anew, with a trial each (a quarter of an hour)
#   make clean                      forgets .venv

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet install --constraint constraints.txt
CHROMIUM := $(or $(GRADSCOPE_CHROMIUM),/usr/bin/chromium)
ELSEWHERE := , or say where it is: GRADSCOPE_CHROMIUM=/path make test
ARGS ?=

.PHONY: help demo test zoo bench screenshots docs examples clean chromium graphviz
.DELETE_ON_ERROR:

help:
	@sed -n 's/^#   //p' Makefile

demo: $(VENV)/.demo
	@$(BIN)/gradscope demo $(ARGS)

# Two processes, each with one thread of torch's; what measures time has the machine for itself. 5: nothing was chosen.
test: $(VENV)/.test chromium
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m 'not alone' $(ARGS) || [ $$? = 5 ]
	$(BIN)/python -m pytest -m alone $(ARGS) || [ $$? = 5 ]

zoo: $(VENV)/.test
	@$(BIN)/python -m tests.zoo $(ARGS)

bench: $(VENV)/.bench graphviz
	@$(BIN)/python -m tests.bench $(ARGS)

screenshots: $(VENV)/.test chromium
	@$(BIN)/python -m tests.dashboard.screenshots $(ARGS)

docs: $(VENV)/.test
	@$(BIN)/python -m tests.docs

examples: $(VENV)/.test
	@$(BIN)/python -m tests.dashboard.examples $(ARGS)

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

$(VENV)/.bench: $(VENV)/.test
	@echo "Installing what the benchmark compares with ..."
	@$(PIP) --no-build-isolation --editable '.[test,bench]'
	@touch $@

# Debian's package $(2) where the program $(1) is missing. $(3): what for. $(4): where else the user says that it is.
# $(5): how to say so.
define program
	@command -v "$(1)" >/dev/null || { \
		if [ -n "$(4)" ] || ! command -v apt-get >/dev/null; then sudo=missing; \
		elif [ "$$(id -u)" = 0 ]; then sudo=; \
		elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo='sudo -n'; \
		else sudo=missing; fi; \
		if [ "$$sudo" = missing ]; then \
			echo "$(3), and there is none at $(1)." >&2; \
			echo "Install $(2) (Debian: apt-get install $(2))$(5)." >&2; \
			exit 1; \
		fi; \
		echo "Installing $(2) ..."; \
		$$sudo apt-get update -qq && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $(2) >/dev/null \
			&& command -v "$(1)" >/dev/null; }
endef

chromium:
	$(call program,$(CHROMIUM),chromium,The tests open the page in a real browser,$(GRADSCOPE_CHROMIUM),$(ELSEWHERE))

graphviz:
	$(call program,dot,graphviz,torchexplorer needs graphviz's program dot)
