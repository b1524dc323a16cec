"""Fixtures: a run made once per session, and what the reference makes of it."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from tests.helpers import postgresql_server, sharing, transfer_case
from tests.helpers.oracle import reference, runs

if TYPE_CHECKING:
    from tests.helpers.oracle import real_runs


@dataclasses.dataclass(frozen=True, slots=True)
class Aggregated:
    """A copy of the run that the reference has aggregated; to be read only."""

    run: runs.OracleRun
    """The copy."""

    provenance: pathlib.Path
    """The provenance graph."""


@pytest.fixture(scope="session")
def oracle_run(tmp_path_factory: pytest.TempPathFactory) -> runs.OracleRun:
    """Return an executed run of 311 quanta with all kinds of trouble; work on copies (`runs.copy_run`)."""
    pytest.importorskip("lsst.pipe.base")
    return sharing.made_once(tmp_path_factory, "oracle", lambda path: runs.make_oracle_run(path / "run"))


@pytest.fixture(scope="session")
def postgresql_oracle_run(oracle_run: runs.OracleRun, postgresql: postgresql_server.Server) -> runs.OracleRun:
    """Return `oracle_run` with a PostgreSQL database; work on copies."""
    from tests.helpers import postgresql_repository

    database = postgresql_repository.load(postgresql, oracle_run.database)
    return dataclasses.replace(oracle_run, postgresql=database)


@pytest.fixture(scope="session")
def clean_oracle_run(tmp_path_factory: pytest.TempPathFactory) -> runs.OracleRun:
    """Return an executed run of 40 quanta in which nothing has failed; work on copies."""
    pytest.importorskip("lsst.pipe.base")

    def make(path: pathlib.Path) -> runs.OracleRun:
        return runs.make_oracle_run(path / "run", visits=3, detectors=2, patches=2, trouble=False)

    return sharing.made_once(tmp_path_factory, "clean_oracle", make)


@pytest.fixture(scope="session")
def reference_result(oracle_run: runs.OracleRun, tmp_path_factory: pytest.TempPathFactory) -> Aggregated:
    """Return a copy of `oracle_run` as the reference aggregates it."""

    def make(path: pathlib.Path) -> Aggregated:
        copy = runs.copy_run(oracle_run, path / "repo")
        reference.aggregate(copy, path / "provenance.qg")
        return Aggregated(copy, path / "provenance.qg")

    return sharing.made_once(tmp_path_factory, "reference", make)


@pytest.fixture(scope="session")
def postgresql_reference_result(
    postgresql_oracle_run: runs.OracleRun, tmp_path_factory: pytest.TempPathFactory
) -> Aggregated:
    """Return a copy of `postgresql_oracle_run` as the reference aggregates it."""
    path = tmp_path_factory.mktemp("reference_pg")
    copy = runs.copy_run(postgresql_oracle_run, path / "repo")
    reference.aggregate(copy, path / "provenance.qg")
    return Aggregated(copy, path / "provenance.qg")


@pytest.fixture(scope="session")
def real_repository(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., pathlib.Path]:
    """Return what gives a repository for real tasks, with so many visits and detectors; work on copies."""
    pytest.importorskip("lsst.pipe.base")
    from tests.helpers.oracle import real_runs

    def shared(visits: int = 2, detectors: int = 3) -> pathlib.Path:
        return sharing.made_once(
            tmp_path_factory,
            f"real_{visits}_{detectors}",
            lambda path: real_runs.make_repository(path / "repo", visits, detectors),
        )

    return shared


@pytest.fixture(scope="session")
def real_case(real_repository: Callable[..., pathlib.Path]) -> Callable[..., real_runs.Case]:
    """Return what makes a graph for a copy of such a repository; see `real_runs.make`."""
    from tests.helpers.oracle import real_runs

    def make(
        root: pathlib.Path,
        modes: Mapping[str, str] | None = None,
        *,
        visits: int = 2,
        detectors: int = 3,
        **options: Any,
    ) -> real_runs.Case:
        return real_runs.make(real_repository(visits, detectors), root, modes, **options)

    return make


@pytest.fixture(scope="session")
def transfer_source(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Make a repository with all that can be transferred; it is only read."""
    return transfer_case.make(tmp_path_factory.mktemp("source"))
