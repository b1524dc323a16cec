"""Benchmarks against the reference, on runs whose files look like those of a real campaign."""

import pathlib
import sys

# The helpers that know the reference live with the tests.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))
