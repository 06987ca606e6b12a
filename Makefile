# Commands that people and scripts rely on. Each makes the environment it needs.
PYTHON ?= python3
BIN := .venv/bin
PORT ?= 8501
CODE := app.py core collectors storage analytics charts pages reports benchmarks docs tests

.PHONY: run demo report setup test test-matrix test-servers check docs screenshots bench clean
.DEFAULT_GOAL := run

run: .venv/.user  ## collect from this machine and show it
	@STREAMLIT_SERVER_PORT=$(PORT) $(BIN)/honcho --no-colour start

demo: export VATIO_CONFIG := demo.toml
demo: .venv/.user  ## the same with a simulated fleet in a database of its own
	@STREAMLIT_SERVER_PORT=$(PORT) $(BIN)/honcho --no-colour start

report: .venv/.user  ## the last whole week as HTML, PDF, XLSX, CSV and JSON, in var/reports
	@$(BIN)/python -m reports weekly --output var/reports

setup: .venv/.user  ## the environment alone

test: .venv/.dev  ## every test but those that need real inference servers
	@sh tests/need.sh
	@$(BIN)/python -m pytest -n 2 --dist loadgroup

test-servers: .venv/.dev  ## against real vLLM, llama-server, LiteLLM and Prometheus; the first run installs them
	@sh tests/need.sh prometheus
	@$(BIN)/python -m tests.servers.install
	@$(BIN)/python -m pytest -m servers tests/servers

test-matrix: .venv/.dev  ## every page of the demo in a browser, in the languages that make test leaves out
	@sh tests/need.sh
	@$(BIN)/python -m pytest -m matrix tests/e2e

docs: .venv/.dev  ## what is generated from the code
	@$(BIN)/python -m core.reference metrics > docs/metrics.md
	@$(BIN)/python -m core.reference settings > docs/settings.md

check: .venv/.dev  ## format, lint, types, import contracts
	@$(BIN)/ruff format --check $(CODE)
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/mypy $(CODE)
	@$(BIN)/lint-imports

screenshots: .venv/.dev  ## the README's pictures, from the demo
	@$(BIN)/python -m docs.screenshots

bench: .venv/.dev  ## what a tick costs, beside node_exporter + Prometheus and Netdata where they are installed
	@$(BIN)/python -m benchmarks

clean:  ## the environment and caches; data in var/ stays
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Vatio needs Python 3.11 or newer; set PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "no venv module here: on Debian, apt install python3-venv"; exit 1; }

.venv/.user: requirements.txt | .venv/bin/python
	@echo "installing dependencies into .venv (once, about a minute)"
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/.dev: requirements-dev.txt requirements.txt | .venv/bin/python
	@echo "installing development dependencies into .venv"
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch .venv/.user $@
