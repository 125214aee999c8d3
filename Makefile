# Everything a person or a build does with Coffer. `make` alone lists it.

SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo up check format test test-full bench bench-postgres docs lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: ## Make .venv from the pinned requirements (seconds when nothing changed)
	@$(PYTHON) scripts/setup_venv.py

demo: setup ## Back up, verify, restore and compare a file tree and a PostgreSQL server through the DAGs, in-process
	@$(BIN)/python demo/run_demo.py

up: setup ## Start a whole Airflow on 127.0.0.1; Ctrl-C stops it
	@$(BIN)/python scripts/airflow_up.py

check: setup ## Format, lint, types and import contracts; rewrites nothing
	@$(BIN)/ruff format --check --quiet . || { $(BIN)/ruff format --check .; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

format: setup ## Rewrite the files as `make check` wants them, where that is safe
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

test: setup ## Run the test suite (all but the slow ones)
	@$(BIN)/pytest -n 2 --dist loadfile -m "not slow"

test-full: setup ## Run every test, the slow ones too, and hold the engine to its coverage
	@$(BIN)/pytest -n 2 --dist loadfile --cov --cov-report=term
	@$(BIN)/python scripts/coverage_gate.py

bench: setup ## Measure against restic, borg and tar; writes benchmarks/RESULTS.md
	@$(BIN)/python -m benchmarks

bench-postgres: setup ## Measure against pg_basebackup, pgBackRest and Barman; writes benchmarks/POSTGRES.md
	@$(BIN)/python -m benchmarks.postgres

docs: setup ## Write the generated pages of docs/ anew
	@$(BIN)/python scripts/generate_errors_md.py
	@$(BIN)/python scripts/generate_cli_md.py
	@$(BIN)/python scripts/generate_configuration_md.py

lock: setup ## Pin anew: requirements*.in -> requirements*.txt
	@$(BIN)/python scripts/lock_requirements.py

clean: ## Remove .venv, caches and measurements; keeps var/ (it holds repositories and keys)
	@rm -rf --one-file-system .venv .setup.lock .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.* htmlcov
