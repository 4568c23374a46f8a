# make study   sets up, runs study.yaml with the profile that fits this machine, renders its report
# make test    sets up and passes all tests;  make test-fast leaves out what trains, renders or starts processes
# make test-gpu  what a GPU computes; the other tests use none
# make lint    formatting, lint, import bans and types
# make docs    the documentation as a site, in site/
.PHONY: study test test-fast test-gpu lint docs setup setup-dev

BIN := .venv/bin
export MPLBACKEND := Agg

PROFILE ?=
profile := $(if $(PROFILE),--profile $(PROFILE))

study: setup
	@$(BIN)/ablations run $(profile); code=$$?; \
	[ $$code -ne 3 ] || echo "make study PROFILE=cpu needs no download and no GPU." >&2; \
	[ $$code -le 1 ] || exit $$code; \
	echo; $(BIN)/ablations report $(profile) && exit $$code

test: setup-dev
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --ignore tests/executors
	$(BIN)/python -m pytest -q tests/executors  # real clusters want the machine for themselves

test-fast: setup-dev
	$(BIN)/python -m pytest -q -n 2 -m "not slow"

test-gpu: setup-dev
	ABLATIONS_TEST_GPU=1 $(BIN)/python -m pytest -q tests/gpu

lint: setup-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: setup-dev
	$(BIN)/python -m mkdocs build --strict

setup:
	@scripts/setup.sh

setup-dev:
	@scripts/setup.sh dev
