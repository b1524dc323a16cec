#!/bin/sh
# Runs the comparisons with the newest reference, in an environment of its own: it needs Python 3.12 or newer.
# Usage: tests/oracle/newest/compare.sh [OPTIONS OF PYTEST]. NEWEST_PYTHON names the interpreter, if it is not to be found.
set -e
cd "$(dirname "$0")/../../.."
venv=.venv-newest
packages="lsst-pipe-base==30.2026.4300 lsst-daf-butler==30.2026.4300 lsst-ctrl-mpexec==30.2026.4300 sqlalchemy>=2.1"

suits() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null
}

find_python() {
    for python in "$NEWEST_PYTHON" python3.14 python3.13 python3.12 python3 "$HOME"/.pyenv/versions/3.1[2-9]*/bin/python; do
        if [ -n "$python" ] && suits "$python"; then
            echo "$python"
            return
        fi
    done
}

if [ ! -e "$venv/complete" ] || [ pyproject.toml -nt "$venv/complete" ] || [ "$0" -nt "$venv/complete" ]; then
    python=$(find_python)
    if [ -z "$python" ]; then
        echo "NOTHING WAS COMPARED with the newest reference: it needs Python 3.12 or newer, and there is none" >&2
        echo "(looked for in PATH and ~/.pyenv/versions; NEWEST_PYTHON names another one)." >&2
        exit 0
    fi
    "$python" -m venv --clear "$venv"
    # shellcheck disable=SC2086
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --editable ".[test]" $packages
    site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    case $("$venv/bin/python" -c 'import platform; print(platform.python_version())') in
    3.12.[01] | 3.13.0)
        cp tests/oracle/newest/mended_zipfile.py "$site"
        echo "import mended_zipfile" > "$site/mended_zipfile.pth"
        ;;
    esac
    touch "$venv/complete"
fi
"$venv/bin/python" --version
exec "$venv/bin/python" -m pytest tests/oracle/test_aggregation.py tests/oracle/test_graph_ingestion.py \
    tests/oracle/test_reports.py tests/oracle/test_synthesis.py tests/oracle/test_helpers.py \
    tests/oracle/test_type_overrides.py "$@"
