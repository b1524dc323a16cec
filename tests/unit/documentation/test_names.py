"""Every file, folder and module that pages, comments and docstrings name is there."""

from __future__ import annotations

import importlib
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
MOVED = ("butler", "execution", "schemas", "stages", "storage", "workers")
"""Folders whose packages are within `aggregator`."""

FOLDERS = ("aggregator", "benchmarks", "docs", "tests", *MOVED)

OTHER = frozenset({"butler.yaml", "butler.cli", "aggregator.formats", "aggregator.UnreadableFile"})
"""No modules: a file of every repository, groups of entry points, an exception in graphs."""

# Shared with the reference, whose files and modules these pages name as well.
_SKIPPED = ROOT / "docs" / "spec"
_QUOTED = re.compile(r"`([^`\s]+)`")
_MODULE = re.compile(rf"(?:python -m |`)((?:{'|'.join(FOLDERS)})(?:\.\w+)+)")
_NAMES = {path.name for folder in FOLDERS for path in (ROOT / folder).rglob("*")}


def sources(folder: str) -> Iterator[pathlib.Path]:
    """Yield pages, and code for what its comments and docstrings name."""
    yield from (path for path in (ROOT / folder).rglob("*.md") if _SKIPPED not in path.parents)
    yield from (path for path in (ROOT / folder).rglob("*.py") if path != pathlib.Path(__file__))


def missing(text: str) -> list[str]:
    """Return names in a text of which nothing is there."""
    problems = []
    for name in _QUOTED.findall(text):
        first, slash, _ = name.partition("/")
        is_path = bool(slash) and first in FOLDERS and "*" not in name
        if (is_path and not (ROOT / name).exists()) or (
            not slash and re.fullmatch(r"\w+\.py", name) and name not in _NAMES
        ):
            problems.append(name)
    return problems + [name for name in _MODULE.findall(text) if name not in OTHER and not _resolves(name)]


def _resolves(name: str) -> bool:
    """Return whether a dotted name leads to a module, or to something in one."""
    parts = name.split(".")
    if parts[0] in MOVED:
        return False
    folders = parts[1:] if parts[1] in MOVED else parts
    n = len(folders)
    while not (path := ROOT.joinpath(*folders[:n])).is_dir() and not path.with_suffix(".py").exists():
        n -= 1
    attributes = folders[n:]
    if not attributes or parts[0] != "aggregator":
        return not attributes
    value: Any = importlib.import_module(".".join(parts[: len(parts) - len(attributes)]))
    for attribute in attributes:
        value = getattr(value, attribute, None)
    return value is not None


def test_what_is_missing_is_found() -> None:
    text = "`schemas/no.py`, `no.py`, `butler.creation`, `aggregator.Nothing`, python -m benchmarks.nothing"
    assert missing(text) == [
        "schemas/no.py", "no.py", "butler.creation", "aggregator.Nothing", "benchmarks.nothing",
    ]  # fmt: skip
    there = (
        "`schemas/messages.py`, `workers/`, `messages.py`, `aggregator.butler.creation`, `aggregator.Status`"
    )
    assert not missing(there)


@pytest.mark.parametrize("folder", FOLDERS)
def test_names_in_a_folder(folder: str) -> None:
    problems = {str(path.relative_to(ROOT)): missing(path.read_text()) for path in sources(folder)}
    assert not {path: names for path, names in problems.items() if names}


def test_names_at_the_top() -> None:
    problems = {path.name: missing(path.read_text()) for path in ROOT.glob("*.md")}
    assert not {path: names for path, names in problems.items() if names}
