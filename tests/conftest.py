"""Fixtures shared by all tests."""

import dataclasses
import json
import pathlib
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest

from tests import postgresql_server

DATA = pathlib.Path(__file__).parent / "data"


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """The sample run: an executed repository, graphs written by the reference, expected results."""

    root: pathlib.Path
    """Directory with everything that the archive holds."""

    repo: pathlib.Path
    """The executed repository, before aggregation."""

    expected: dict[str, Any]
    """What the reference makes of it."""


@pytest.fixture
def sample(tmp_path: pathlib.Path) -> Sample:
    with zipfile.ZipFile(DATA / "sample.zip") as archive:
        archive.extractall(tmp_path)
    expected = json.loads((DATA / "expected.json").read_text())
    return Sample(tmp_path, tmp_path / "repo", expected)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[postgresql_server.Server]:
    """Run a PostgreSQL server; it is started when the first test wants it."""
    with postgresql_server.running() as server:
        yield server
