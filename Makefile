# Everything works from a bare checkout with just Python (>= 3.11) and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup test lint demo bench bench-resume kills clean

$(VENV)/product: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat \
		--editable .
	touch $@

$(VENV)/development: $(VENV)/product
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat \
		--editable ".[test,oracle,lint]"
	touch $@

setup: $(VENV)/development

test: $(VENV)/development
	$(BIN)/python -m pytest

lint: $(VENV)/development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Makes a run of 3,000 quanta with all kinds of trouble, aggregates it, and shows what happened.
demo: $(VENV)/product
	rm -rf demo
	$(BIN)/aggregator synthesize demo --quanta 3000 -j 2 --interactive-status
	$(BIN)/aggregator aggregate-graph demo/predicted.qg demo -o demo/provenance.qg -j 2 --interactive-status

# Compares speed and results with the reference implementation; figures go to bench-out/.
bench: $(VENV)/development
	mkdir -p bench-out
	$(BIN)/python -m benchmarks.compare --quanta 5000 --repeat 3 --workdir bench-out --json bench-out/compare.json

# What a restart costs after a kill at 90 %; making the run takes some minutes.
bench-resume: $(VENV)/development
	mkdir -p bench-out
	$(BIN)/python -m benchmarks.resume --quanta 20000 --workdir bench-out

# Kills 50 runs at random moments, besides those killed at each step; runs graphs of hardly any quanta often.
kills: $(VENV)/development
	AGGREGATOR_RANDOM_KILLS=50 AGGREGATOR_SMALL_LOOPS=20 \
		$(BIN)/python -m pytest tests/test_kills.py tests/test_small_graphs.py

clean:
	rm -rf $(VENV) demo bench-out build *.egg-info
