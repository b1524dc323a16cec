#!/bin/sh
# Checks types of the whole package, whose parts lie in folders beside it: links put them together.
set -e
cd "$(dirname "$0")/.."
rm -rf .typecheck
mkdir -p .typecheck/aggregator
for part in aggregator/* butler execution schemas stages storage workers; do
    ln -s "../../$part" .typecheck/aggregator/
done
cd .typecheck
case $1 in /*) mypy=$1 ;; *) mypy=../$1 ;; esac
"$mypy" --config-file ../pyproject.toml --cache-dir ../.mypy_cache
