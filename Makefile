# Everything works from a bare checkout with just Python (>= 3.11) and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup fast test test-all coverage lint demo bench bench-large kills oracle-newest package clean

$(VENV)/product: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/development: $(VENV)/product
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[test,oracle,lint,tables]"
	touch $@

setup: $(VENV)/development

PYTEST := $(BIN)/python -m pytest --durations=25

# What needs nothing but its own process.
fast: $(VENV)/development
	$(PYTEST) -n auto tests/unit

# Everything that is shown, but not in each combination.
# Pages are tested in Chromium; as root on Debian this installs it, elsewhere those tests are skipped without.
test: $(VENV)/development
	tests/browser/get_browser.sh
	$(PYTEST) -n auto --dist worksteal -m "not exhaustive"

# All combinations, as before a release.
test-all: $(VENV)/development
	tests/browser/get_browser.sh
	AGGREGATOR_RANDOM_KILLS=50 AGGREGATOR_SMALL_LOOPS=100 $(PYTEST) -n auto --dist worksteal

# What `make test` covers of each folder, with all processes; fails where that is less than it shall be.
coverage: $(VENV)/development
	rm -rf .coverage && mkdir .coverage
	COVERAGE_DIRECTORY=$(CURDIR)/.coverage $(BIN)/coverage run -m pytest -n auto --dist worksteal -m "not exhaustive"
	COVERAGE_DIRECTORY=$(CURDIR)/.coverage $(BIN)/coverage combine --quiet
	COVERAGE_DIRECTORY=$(CURDIR)/.coverage $(BIN)/coverage json --quiet -o .coverage/coverage.json
	$(BIN)/python tests/coverage_by_folder.py .coverage/coverage.json

lint: $(VENV)/development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	tests/check_types.sh $(BIN)/mypy
	$(BIN)/hadolint Containerfile

# Makes a run of 3,000 quanta with all kinds of trouble, aggregates it, and tells what became of it.
demo: $(VENV)/product
	rm -rf demo
	$(BIN)/aggregator synthesize demo --quanta 3000 -j 2 --interactive-status
	$(BIN)/aggregator aggregate-graph demo/predicted.qg demo -o demo/provenance.qg -j 2 --interactive-status
	$(BIN)/aggregator provenance-report demo/provenance.qg --format html --output demo/report.html
	@printf '\nWhat happened:\n\n'
	@$(BIN)/aggregator show demo/provenance.qg
	@printf '\nWhat failed (the first three):\n\n'
	@$(BIN)/aggregator show demo/provenance.qg --failed --limit 3
	@printf '\nThe same as a page: %s\nNext:\n' '$(CURDIR)/demo/report.html'
	@printf '  %-80s # %s\n' \
		'$(BIN)/aggregator show demo/provenance.qg --failed' 'all that failed, and why' \
		'$(BIN)/aggregator show demo/provenance.qg --task isr --data-id "detector=5"' 'quanta by data ID' \
		'$(BIN)/aggregator status demo/provenance.qg' 'how far the run is' \
		'$(BIN)/aggregator ingest-graph demo demo/provenance.qg' 'let the graph take the place of files' \
		'$(BIN)/aggregator --help' 'all commands'

$(VENV)/benchmarks: $(VENV)/development
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[bench]"
	touch $@

MEASURE := $(BIN)/python -m benchmarks

# Measures speed and compares results with the reference implementation: half an hour. Figures and plots
# go to bench-out/.
bench: $(VENV)/benchmarks
	mkdir -p bench-out
	$(MEASURE).compare --quanta 5000 --databases sqlite postgresql --processes 1 2 --without-graph \
		--workdir bench-out --json bench-out/compare.json
	$(MEASURE).growth --quanta 5000 20000 --resume --repeat 3 --workdir bench-out --json bench-out/growth.json
	$(MEASURE).ceilings --quanta 20000 --workdir bench-out --json bench-out/ceilings.json
	$(MEASURE).dataset_types --json bench-out/dataset_types.json
	$(MEASURE).plots --results bench-out --to bench-out

# The same for large runs, up to a million quanta: some hours and 30 GB, most of them for making the runs.
bench-large: $(VENV)/benchmarks
	mkdir -p bench-out/large
	$(MEASURE).compare --quanta 20000 --repeat 3 --workdir bench-out/large --json bench-out/large/compare.json
	$(MEASURE).growth --quanta 10000 20000 100000 300000 --resume --workdir bench-out/large \
		--json bench-out/large/growth.json
	$(MEASURE).growth --quanta 10000 100000 1000000 --small --resume --workdir bench-out/large \
		--json bench-out/large/growth-small.json
	$(MEASURE).ceilings --quanta 20000 --workdir bench-out/large --json bench-out/large/ceilings.json
	$(MEASURE).plots --results bench-out/large --to bench-out/large

# Kills 50 runs at random moments, besides those killed at each step; ingestions of graphs at each step in each
# way with each database; runs graphs of hardly any quanta often.
kills: $(VENV)/development
	AGGREGATOR_RANDOM_KILLS=50 AGGREGATOR_SMALL_LOOPS=100 \
		$(BIN)/python -m pytest tests/kills/test_aggregation.py tests/system/test_small_graphs.py \
		tests/kills/test_graph_ingestion.py tests/oracle/test_graph_ingestion.py

# Compares with the newest reference, which needs Python 3.12 or newer: ten minutes and an environment of its own.
oracle-newest:
	tests/oracle/newest/compare.sh

# Builds sdist and wheel, and tests both in fresh environments of these interpreters: half an hour.
PYTHONS ?= python3.11 python3.12 python3.13
package:
	tests/package/check.sh $(PYTHONS)

clean:
	rm -rf $(VENV) .venv-newest .coverage demo bench-out build *.egg-info
