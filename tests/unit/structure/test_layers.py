"""The structure of the code: imports point down, never in circles, and a name of a module has one meaning."""

from __future__ import annotations

import ast
import collections
import graphlib
import pathlib
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[3]

LAYERS = [
    ["storage"],
    ["schemas"],
    ["butler"],
    ["workers.engines"],
    ["workers"],
    ["execution"],
    ["stages"],
    ["console", "ranges", "repository_files"],
    ["aggregation", "building", "graph_ingestion", "reading", "reports", "show", "staging", "synthesis"],
    ["following", "running", "transfer"],
    [""],
    ["command_line", "__main__"],
]
"""Packages below `aggregator`, the lowest first; what is not named is in the layer of the one around it."""

DOUBLES = {
    # A module that is about the things in a package of that name, one layer above it.
    "checkpoints": {"aggregator.aggregation", "aggregator.schemas"},
    "configuration": {"aggregator.aggregation", "aggregator.butler"},
    # What executes quanta, and the files that this leaves.
    "execution": {"aggregator", "aggregator.schemas"},
    # What a configuration calls so, and what writes objects to storages of stages.
    "formatters": {"aggregator.butler.datastores", "aggregator.stages"},
    "registry": {"aggregator.butler.registry", "aggregator.butler"},
    "show": {"aggregator.command_line", "aggregator"},
    "stage": {"aggregator.command_line", "aggregator.stages"},
    # What stands in for the implementations of an interface in tests.
    "testing": {"aggregator.storage", "aggregator.workers.engines"},
    # How a graph gets into its repository, and what gets from one repository into another.
    "transfers": {"aggregator.graph_ingestion", "aggregator.butler"},
    # Tables of a database, and those in which results are given to users.
    "tables": {"aggregator.butler.registry", "aggregator.reading"},
}
"""Modules and packages that may share a name, and where they are."""


def modules() -> dict[str, pathlib.Path]:
    """Return the files of all modules by name."""
    result = {}
    for folder in ("aggregator", "butler", "execution", "schemas", "stages", "storage", "workers"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = list(path.relative_to(ROOT).with_suffix("").parts)
            if folder != "aggregator":
                parts.insert(0, "aggregator")
            if parts[-1] == "__init__":
                parts.pop()
            result[".".join(parts)] = path
    return result


MODULES = modules()


def imports(name: str) -> set[str]:
    """Return the modules of this project that a module imports, wherever it does."""
    result = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} imports by a relative name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for imported in names:
            while imported and imported not in MODULES:
                imported = imported.rpartition(".")[0]
            if imported:
                result.add(imported)
    return result - {name}


IMPORTS = {name: imports(name) for name in MODULES}


def layer(name: str) -> int:
    """Return the number of a module's layer."""
    within = name.partition(".")[2]
    while True:
        for number, packages in enumerate(LAYERS):
            if within in packages:
                return number
        within = within.rpartition(".")[0]


def test_imports_are_seen() -> None:
    assert "aggregator.storage.errors" in IMPORTS["aggregator.schemas.output_paths"]
    assert layer("aggregator.storage.errors") < layer("aggregator.schemas.output_paths")
    assert layer("aggregator.workers.engines.engine") < layer("aggregator.workers.roles.handling")
    assert sum(map(len, IMPORTS.values())) > 500


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down(name: str) -> None:
    assert [other for other in IMPORTS[name] if layer(other) > layer(name)] == []


def test_there_are_no_circles() -> None:
    graphlib.TopologicalSorter(IMPORTS).prepare()


def test_a_name_has_one_meaning() -> None:
    places = collections.defaultdict(set)
    for name in MODULES:
        package, _, stem = name.rpartition(".")
        places[stem].add(package)
    assert {stem: found for stem, found in places.items() if len(found) > 1} == DOUBLES


def test_all_packages_are_installed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = [name for name, path in MODULES.items() if path.name == "__init__.py"]
    assert sorted(settings["packages"]) == sorted(packages)
