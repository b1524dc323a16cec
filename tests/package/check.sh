#!/bin/sh
# Builds sdist and wheel, and tests both in fresh environments of the given interpreters: the wheel beside nothing
# but the tests, the sdist as whoever works on it. PACKAGE_TESTS chooses which tests.
set -eu
cd "$(dirname "$0")/../.."
tests=${PACKAGE_TESTS:-tests/unit tests/system/test_imports.py}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
run() { (cd "$1" && shift && "$@"); }

"$1" -m venv "$work/build"
"$work/build/bin/pip" install --quiet --disable-pip-version-check build
# The wheel is built from the sdist, so that has all it needs.
"$work/build/bin/python" -m build --outdir "$work/dist" . > "$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
wheel=$(echo "$work"/dist/*.whl)
sdist=$(echo "$work"/dist/*.tar.gz)
"$1" tests/package/contents.py "$wheel" "$sdist"
mkdir "$work/source" "$work/alone"
tar -xf "$sdist" -C "$work/source" --strip-components 1
cp -r "$work/source/tests" "$work/source/docs" "$work/source/pyproject.toml" "$work/alone"
# Those look into the sources.
rm -r "$work/alone/tests/unit/documentation" "$work/alone/tests/unit/structure"

for python in "$@"; do
    echo "== $("$python" --version), wheel"
    "$python" -m venv --clear "$work/venv"
    "$work/venv/bin/pip" install --quiet --disable-pip-version-check "$wheel[test,tables,formats]"
    run "$work/dist" "$work/venv/bin/aggregator" --version
    # shellcheck disable=SC2086
    run "$work/alone" "$work/venv/bin/python" -m pytest -q -n auto $tests
    echo "== $("$python" --version), sdist"
    "$python" -m venv --clear "$work/venv"
    "$work/venv/bin/pip" install --quiet --disable-pip-version-check "$sdist"
    run "$work/dist" "$work/venv/bin/aggregator" --version
    "$work/venv/bin/pip" install --quiet --disable-pip-version-check --editable "$work/source[test,tables,formats]"
    # shellcheck disable=SC2086
    run "$work/source" "$work/venv/bin/python" -m pytest -q -n auto $tests
done
