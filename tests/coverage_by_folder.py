"""Prints what tests cover of each folder, and fails where branches are covered less than they shall be.

Usage: python tests/coverage_by_folder.py COVERAGE.JSON
"""

from __future__ import annotations

import collections
import json
import pathlib
import sys

FOLDERS = ("butler", "execution", "schemas", "stages", "storage", "workers")
LIMITS = dict.fromkeys(FOLDERS, 95.0)
"""Least shares of branches, in per cent."""

COLUMNS = ("covered_lines", "num_statements", "covered_branches", "num_branches")


def main(path: str) -> int:
    """Print the table; return the number of folders that are below their limits."""
    root = pathlib.Path(__file__).resolve().parents[1]
    totals: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for name, file in json.loads(pathlib.Path(path).read_text())["files"].items():
        folder = (root / name).relative_to(root).parts[0]
        totals[folder].update({column: file["summary"][column] for column in COLUMNS})
    print(f"{'folder':12} {'lines':>8} {'branches':>9} {'missed':>7} {'limit':>6}")
    n_below = 0
    for folder in sorted({*totals, *LIMITS}):
        total, limit = totals[folder], LIMITS.get(folder)
        lines = 100 * total["covered_lines"] / (total["num_statements"] or 1)
        branches = 100 * total["covered_branches"] / (total["num_branches"] or 1)
        is_below = limit is not None and branches < limit
        n_below += is_below
        missed = total["num_branches"] - total["covered_branches"]
        shown = "" if limit is None else f"{limit:5.1f}"
        print(f"{folder:12} {lines:7.1f}% {branches:8.1f}% {missed:7} {shown:>6}{' BELOW' * is_below}")
    return n_below


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
