PYTHON ?= python3.11
.PHONY: setup
setup:
	@$(PYTHON) scripts/setup_venv.py
