"""Aggregated runs for tests of the ingestion of graphs."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator

import pytest

from tests.helpers import graph_ingestion_case, postgresql_server, sharing
from tests.helpers.oracle import runs

Case = graph_ingestion_case.Case


@pytest.fixture(scope="session")
def aggregated(oracle_run: runs.OracleRun, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Return an aggregated run with all kinds of trouble; work on copies."""

    def make(path: pathlib.Path) -> Case:
        return graph_ingestion_case.aggregate(oracle_run, path)

    return sharing.made_once(tmp_path_factory, "aggregated", make)


@pytest.fixture(scope="session")
def postgresql_aggregated(
    postgresql_oracle_run: runs.OracleRun, tmp_path_factory: pytest.TempPathFactory
) -> Case:
    """Return `aggregated` with a PostgreSQL database; work on copies."""
    return graph_ingestion_case.aggregate(postgresql_oracle_run, tmp_path_factory.mktemp("aggregated_pg"))


@pytest.fixture(params=["sqlite", "postgresql"])
def template(request: pytest.FixtureRequest) -> Case:
    """Return an aggregated run in either kind of database; work on copies."""
    name = "aggregated" if request.param == "sqlite" else "postgresql_aggregated"
    found: Case = request.getfixturevalue(name)
    return found


@pytest.fixture
def case(template: Case, tmp_path: pathlib.Path) -> Iterator[Case]:
    """Return an aggregated run in either kind of database."""
    copy = template.copy(tmp_path)
    yield copy
    runs.remove_database(copy.run)


@pytest.fixture(scope="session")
def small_aggregated(clean_oracle_run: runs.OracleRun, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Return an aggregated run of 40 quanta; work on copies."""

    def make(path: pathlib.Path) -> Case:
        return graph_ingestion_case.aggregate(clean_oracle_run, path)

    return sharing.made_once(tmp_path_factory, "small", make)


@pytest.fixture(scope="session")
def small_postgresql_aggregated(
    clean_oracle_run: runs.OracleRun,
    postgresql: postgresql_server.Server,
    tmp_path_factory: pytest.TempPathFactory,
) -> Case:
    """Return `small_aggregated` with a PostgreSQL database; work on copies."""
    from tests.helpers import postgresql_repository

    database = postgresql_repository.load(postgresql, clean_oracle_run.database)
    run = dataclasses.replace(clean_oracle_run, postgresql=database)
    return graph_ingestion_case.aggregate(run, tmp_path_factory.mktemp("small_pg"))


@pytest.fixture(params=["sqlite", "postgresql"])
def small_template(request: pytest.FixtureRequest) -> Case:
    """Return an aggregated run of 40 quanta in either kind of database; work on copies."""
    name = "small_aggregated" if request.param == "sqlite" else "small_postgresql_aggregated"
    found: Case = request.getfixturevalue(name)
    return found
