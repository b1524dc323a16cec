"""Fixtures shared by all tests."""

import gc
import os
import pathlib
import shutil
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import hypothesis
import pytest

from tests.helpers import databases, lease_hosts, postgresql_server, samples

if TYPE_CHECKING:
    from tests.helpers import object_servers

pytest_plugins = ["tests.helpers.oracle.fixtures", "tests.helpers.graph_ingestion_fixtures"]

ROOT = pathlib.Path(__file__).parent

FOLDERS = {
    "unit": "needs nothing but this process",
    "conformance": "one suite for an interface, which every implementation passes",
    "oracle": "compares with the reference",
    "kills": "kills, interrupts or restores, and goes on",
    "scale": "large graphs, large logs, little memory",
    "browser": "looks at pages in a browser",
    "system": "whole aggregations and ingestions, commands, workers and servers",
}
"""Folders of tests, each of which is a marker, too."""


# How long an example takes depends on what else the machine does.
hypothesis.settings.register_profile("usual", max_examples=50, deadline=None)
hypothesis.settings.register_profile("exhaustive", max_examples=500, deadline=None)
hypothesis.settings.load_profile("usual")


def pytest_configure(config: pytest.Config) -> None:
    for name, meaning in FOLDERS.items():
        config.addinivalue_line("markers", f"{name}: {meaning}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its folder."""
    for item in items:
        folder = item.path.relative_to(ROOT).parts[0]
        if folder not in FOLDERS:
            raise pytest.UsageError(f"{item.path}: tests go into one of {', '.join(FOLDERS)}")
        item.add_marker(folder)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Let garbage collections pass over modules and tests: to look through them costs a tenth of all time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pathlib.Path]:
    """Keep the user's cache directory out of it."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(path))
        yield path


@pytest.fixture(scope="session", autouse=True)
def umask() -> Iterator[None]:
    """Let others read what is written, as in most places: servers of tests have users of their own."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(scope="session", autouse=True)
def signals() -> Iterator[None]:
    """Let signals do what they do in a terminal, also in the background (`nohup`), where some are ignored."""
    usual = {signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, action) for number, action in usual.items()}
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [*usual, signal.SIGTERM])
    yield
    for number, action in before.items():
        signal.signal(number, action)


@pytest.fixture
def sample(tmp_path: pathlib.Path) -> samples.Sample:
    return samples.unpack(tmp_path)


@pytest.fixture
def aggregated_sample(sample: samples.Sample) -> samples.Sample:
    """Return the sample after its aggregation by the reference."""
    shutil.copy(sample.root / "after_aggregate.sqlite3", sample.repo / "gen3.sqlite3")
    return sample


@pytest.fixture(scope="session")
def postgresql() -> Iterator[postgresql_server.Server]:
    """Run a PostgreSQL server; it is started when the first test wants it."""
    with postgresql_server.running() as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator["object_servers.S3Server"]:
    """Run an S3 server; use new buckets."""
    from tests.helpers import object_servers

    with object_servers.running() as server:
        yield server


@pytest.fixture(scope="session")
def postgresql_samples(
    postgresql: postgresql_server.Server, tmp_path_factory: pytest.TempPathFactory
) -> tuple[databases.Postgresql, databases.Postgresql]:
    """Return the sample before and after its aggregation, in databases that are not to be changed."""
    pytest.importorskip("lsst.daf.butler")
    from tests.helpers import postgresql_repository

    root = samples.unpack(tmp_path_factory.mktemp("sample")).root
    files = root / "repo" / "gen3.sqlite3", root / "after_aggregate.sqlite3"
    before, after = (postgresql_repository.load(postgresql, file) for file in files)
    return before, after


@pytest.fixture(params=["sqlite", "postgresql"])
def sample_databases(
    request: pytest.FixtureRequest, sample: samples.Sample
) -> Iterator[tuple[databases.Database, databases.Database]]:
    """Return a copy of the sample's database before its aggregation, and one from after it to be read."""
    if request.param == "sqlite":
        yield (
            databases.Sqlite(sample.repo / "gen3.sqlite3"),
            databases.Sqlite(sample.root / "after_aggregate.sqlite3"),
        )
        return
    before, after = request.getfixturevalue("postgresql_samples")
    copy = before.copy()
    yield copy, after
    copy.remove()


@pytest.fixture
def database(sample_databases: tuple[databases.Database, databases.Database]) -> databases.Database:
    """Return a copy of the sample's database before its aggregation."""
    return sample_databases[0]


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> lease_hosts.Hosts:
    found = lease_hosts.Hosts(monkeypatch)
    found.go_to("first")
    return found
