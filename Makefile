# Everything works from a bare checkout with just Python (>= 3.11) and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup test lint demo bench clean

$(VENV)/product: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/development: $(VENV)/product
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[test,oracle,lint]"
	touch $@

setup: $(VENV)/development

test: $(VENV)/development
	$(BIN)/python -m pytest

lint: $(VENV)/development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Aggregates the sample run and shows what happened.
demo: $(VENV)/product
	rm -rf demo
	$(PYTHON) -m zipfile -e tests/data/sample.zip demo
	$(BIN)/aggregator aggregate-graph demo/repo/predicted.qg demo/repo -o demo/repo/provenance.qg \
		-j 2 --mock-storage-classes --interactive-status

# Compares speed and results with the reference implementation; figures go to bench-out/.
bench: $(VENV)/development
	mkdir -p bench-out
	$(BIN)/python -m benchmarks.compare --quanta 2000 --repeat 3 --workdir bench-out --json bench-out/compare.json

clean:
	rm -rf $(VENV) demo bench-out build *.egg-info
