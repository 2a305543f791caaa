# Every target makes what it needs: .venv, and in it the project's dependencies.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RULES := $(wildcard deploy/prometheus/rules/*.yaml)

# Run a program with arguments; where it is missing, CI fails and a desk is told.
with = if command -v $(1) >/dev/null; then $(1) $(2); else echo "$(1) is not installed: skipped"; test -z "$$CI"; fi

.PHONY: demo test lint test-every-python requirements clean help
.DEFAULT_GOAL := help

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## Run the exporter on a simulated DataRobot, at localhost:10072
	$(BIN)/datarobot-exporter demo

test: $(VENV)/.installed-dev ## Run all tests, with branch coverage
	$(BIN)/python -m pytest -n auto --cov --cov-report=term $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev ## Check style, types, architecture, image file and rule files
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile
	$(if $(RULES),$(call with,promtool,check rules $(RULES)))

test-every-python: ## Run the tests with every Python from 3.11 that is on PATH
	@for python in $$(for v in 3.11 3.12 3.13 3.14; do command -v python$$v >/dev/null && python$$v -c '' 2>/dev/null && echo python$$v; done); do \
	  echo "== $$python"; \
	  $(MAKE) --no-print-directory .venv-$$python/.installed-dev VENV=.venv-$$python PYTHON=$$python && \
	  .venv-$$python/bin/python -m pytest -q -n auto $(PYTEST_ARGS) || exit 1; \
	done

requirements: $(VENV)/.installed-dev ## Pin the image's dependencies again, with hashes
	$(BIN)/pip-compile --quiet --upgrade --generate-hashes --strip-extras --no-header --no-emit-index-url \
	  --no-emit-trusted-host --no-emit-find-links --no-emit-options -o deploy/requirements.txt pyproject.toml
	echo hatchling | $(BIN)/pip-compile --quiet --upgrade --generate-hashes --strip-extras --no-header \
	  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options --no-annotate \
	  -o deploy/requirements-build.txt -

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable . --group dev
	touch $(VENV)/.installed $@

clean: ## Remove what the targets made
	rm -rf .venv .venv-* build dist .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache
