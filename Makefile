# Everything works from a bare checkout with just Python (>= 3.11) and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
# Thousands of processes of tests, and pytest itself, would compile all that they import.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help setup fast test test-all coverage lint docs demo example bench bench-large kills oracle-newest slurm package clean

## Prints this.
help:
	@awk '/^## / { text = text (text ? "\n                    " : "") substr($$0, 4); next } \
		/^[a-z-]+:/ && text { sub(/:.*/, ""); printf "make %-14s %s\n", $$0, text } !/^#/ { text = "" }' Makefile

$(VENV)/product: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/development: $(VENV)/product
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[remote,test,oracle,lint,tables,docs]"
	touch $@

## Sets up .venv, with everything that is needed to work on the project.
setup: $(VENV)/development

PYTEST := $(BIN)/python -m pytest --durations=25

## Runs the tests that need nothing but their own process: half a minute.
fast: $(VENV)/development
	$(PYTEST) -n auto -m "not exhaustive" tests/unit

## Runs all tests, but not each combination: a quarter of an hour on two cores.
# Pages are tested in Chromium; as root on Debian this installs it, elsewhere those tests are skipped without.
test: $(VENV)/development
	tests/browser/get_browser.sh
	$(PYTEST) -n auto --dist worksteal -m "not exhaustive" || tests/once_more.sh $$?

## Runs all tests in all combinations, as before a release.
test-all: $(VENV)/development
	tests/browser/get_browser.sh
	AGGREGATOR_RANDOM_KILLS=50 AGGREGATOR_SMALL_LOOPS=100 $(PYTEST) -n auto --dist worksteal \
		--hypothesis-profile exhaustive

## Measures what `make test` covers of each folder, and fails where that is too little.
coverage: $(VENV)/development
	# Processes of users without privileges write their data, too.
	rm -rf .coverage && mkdir -m 1777 .coverage
	# Of threads that start at once, Python 3.11 may refuse to trace one, which ends then, and so may a test:
	# whether tests pass is for `make test` to say.
	-COVERAGE_DIRECTORY=$(CURDIR)/.coverage $(BIN)/coverage run -m pytest -n auto --dist worksteal -m "not exhaustive"
	COVERAGE_DIRECTORY=$(CURDIR)/.coverage $(BIN)/coverage combine --quiet
	COVERAGE_DIRECTORY=$(CURDIR)/.coverage $(BIN)/coverage json --quiet -o .coverage/coverage.json
	$(BIN)/python tests/coverage_by_folder.py .coverage/coverage.json

## Checks style, types and the Containerfile.
lint: $(VENV)/development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	tests/check_types.sh $(BIN)/mypy
	$(BIN)/hadolint Containerfile

## Builds the site of docs/ in build/site.
# Warnings are errors, and so are links that lead nowhere.
docs: $(VENV)/development
	$(BIN)/sphinx-build --quiet --fresh-env --write-all --fail-on-warning --keep-going -d build/site-cache docs build/site
	@echo "The site: build/site/index.html"

## Makes a run of 3,000 quanta with all kinds of trouble, aggregates it, and reports on it.
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

## Builds, executes, kills, mends and aggregates a small survey: the commands of docs/example.md, in example-out/.
example: $(VENV)/product
	rm -rf example-out && mkdir example-out
	awk '/^```/ { on = ($$0 == "```console") } on && (sub(/^\$$ /, "") || more) { print; more = /\\$$/ }' \
		docs/example.md | (cd example-out && SURVEY=$(CURDIR)/example PATH=$(CURDIR)/$(BIN):$$PATH bash -sv)

$(VENV)/benchmarks: $(VENV)/development
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[bench]"
	touch $@

MEASURE := $(BIN)/python -m benchmarks

## Compares speed and results with the reference: half an hour.
# Figures and plots go to bench-out/.
bench: $(VENV)/benchmarks
	mkdir -p bench-out
	$(MEASURE).compare --quanta 5000 --databases sqlite postgresql --processes 1 2 --without-graph \
		--workdir bench-out --json bench-out/compare.json
	$(MEASURE).growth --quanta 5000 20000 --resume --repeat 3 --workdir bench-out --json bench-out/growth.json
	$(MEASURE).ceilings --quanta 20000 --workdir bench-out --json bench-out/ceilings.json
	$(MEASURE).dataset_types --json bench-out/dataset_types.json
	$(MEASURE).execution --quanta 1000 10000 --workdir bench-out --json bench-out/execution.json
	$(MEASURE).plots --results bench-out --to bench-out

## The same for large runs, up to a million quanta: some hours and 30 GB.
# Most of both is for making the runs.
bench-large: $(VENV)/benchmarks
	mkdir -p bench-out/large
	$(MEASURE).compare --quanta 20000 --repeat 3 --workdir bench-out/large --json bench-out/large/compare.json
	$(MEASURE).growth --quanta 10000 20000 100000 300000 --resume --workdir bench-out/large \
		--json bench-out/large/growth.json
	$(MEASURE).growth --quanta 10000 100000 1000000 --small --resume --workdir bench-out/large \
		--json bench-out/large/growth-small.json
	$(MEASURE).ceilings --quanta 20000 --workdir bench-out/large --json bench-out/large/ceilings.json
	$(MEASURE).execution --quanta 10000 100000 --processes 2 --workdir bench-out/large \
		--json bench-out/large/execution.json
	$(MEASURE).following --workdir bench-out/large --json bench-out/large/following.json
	$(MEASURE).plots --results bench-out/large --to bench-out/large

## Kills runs at each step, and 50 at random moments.
# Ingestions of graphs are killed at each step in each way with each database; tiny graphs are run often.
kills: $(VENV)/development
	AGGREGATOR_RANDOM_KILLS=50 AGGREGATOR_SMALL_LOOPS=100 \
		$(BIN)/python -m pytest tests/kills/test_aggregation.py tests/system/test_small_graphs.py \
		tests/kills/test_graph_ingestion.py tests/oracle/test_graph_ingestion.py

## Compares with the newest reference: ten minutes.
# That needs Python 3.12 or newer, and an environment of its own.
oracle-newest:
	tests/oracle/newest/compare.sh

## Executes workflows in a Slurm cluster of this machine: two minutes, as root on Debian.
# Its packages are unpacked in .slurm, and not installed.
slurm: $(VENV)/development .slurm/unpacked
	AGGREGATOR_SLURM_PACKAGES=$(CURDIR)/.slurm/unpacked $(BIN)/python -m pytest tests/oracle/test_execution.py -k slurm

.slurm/unpacked:
	tests/helpers/get_slurm.sh .slurm

PYTHONS ?= python3.11 python3.12 python3.13

## Builds sdist and wheel, and tests both in fresh environments of three interpreters: half an hour.
package:
	tests/package/check.sh $(PYTHONS)

## Removes everything that was made here.
clean:
	rm -rf $(VENV) .venv-newest .slurm .coverage demo bench-out build *.egg-info
