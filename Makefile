# Warmroute. `make serve` and `make test` work from a fresh clone; everything lives in .venv and .warmroute.
PYTHON ?= python3.11
CONFIG ?= configs/cpu-demo.yaml
BIN := .venv/bin

.PHONY: help install serve stop demo test check coverage format docs docs-site lock manifest-tools clean

help:  ## show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install:  ## make .venv with the locked CPU set (nothing to do when it is there)
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found: install Python 3.11, or run make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) tools/install.py

serve: install  ## serve CONFIG on this machine until Ctrl-C (default: two vLLM replicas of the demo model)
	@$(BIN)/warmroute demo-model .warmroute/demo-model
	@exec $(BIN)/warmroute serve $(CONFIG)

stop:  ## stop what `make serve` started here, and nothing else
	@if [ -x $(BIN)/warmroute ]; then $(BIN)/warmroute stop; else echo "Nothing to stop: not installed."; fi

demo: install  ## measure routing by prefix against round robin on the running server
	@$(BIN)/warmroute demo

check: install  ## format, lint, types, import arrows, fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python tools/references.py --check
	$(BIN)/python tools/manifests.py --check
	$(BIN)/pytest -m "not e2e and not own_process"

test: check  ## everything, including two real vLLM replicas end to end
	@$(BIN)/warmroute demo-model .warmroute/demo-model
	$(BIN)/pytest -m own_process
	$(BIN)/pytest -m e2e

coverage: install  ## lines of router/ that its tests do not run; there shall be none
	@$(BIN)/coverage run -m pytest tests/router
	@$(BIN)/coverage report

format: install  ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: install  ## renew what is generated: parts of docs/reference/ and of k8s/
	@$(BIN)/python tools/references.py
	@$(BIN)/python tools/manifests.py

docs-site:  ## build the documentation as a site in .warmroute/site, apart from .venv
	@test -e .warmroute/docs-tools/bin/mkdocs || { \
	  $(PYTHON) -m venv .warmroute/docs-tools && \
	  .warmroute/docs-tools/bin/pip install --quiet --disable-pip-version-check --requirement docs/requirements.txt; }
	NO_MKDOCS_2_WARNING=1 .warmroute/docs-tools/bin/mkdocs build --quiet --strict --site-dir .warmroute/site

lock: install  ## renew requirements-cpu.lock from pyproject.toml (torch is pinned in pyproject.toml itself)
	@$(BIN)/python tools/install.py --lock

manifest-tools:  ## what the tests of k8s/ need besides kubectl: a validator and a policy linter, apart from .venv
	@test -e .warmroute/manifest-tools/bin/checkov || { \
	  $(PYTHON) -m venv .warmroute/manifest-tools && \
	  .warmroute/manifest-tools/bin/pip install --quiet --disable-pip-version-check --requirement k8s/requirements-lint.txt; }

clean:  ## remove everything that was made here
	rm -rf .venv .warmroute .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis
