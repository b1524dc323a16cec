"""What runs that were killed are compared with."""

from __future__ import annotations

from typing import Any

import pytest

from tests.helpers import divided_runs, kills, sharing
from tests.helpers.oracle import runs


@pytest.fixture(scope="session")
def undisturbed(oracle_run: runs.OracleRun, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what an aggregation of the oracle run leaves that nobody disturbs."""
    directory = tmp_path_factory.mktemp("undisturbed")
    case = kills.Case(runs.copy_run(oracle_run, directory / "repo"), directory / "out.qg")
    case.finish()
    return case.content()


@pytest.fixture(scope="session")
def divided_run(tmp_path_factory: pytest.TempPathFactory) -> divided_runs.DividedRun:
    return sharing.made_once(tmp_path_factory, "divided", divided_runs.make)


@pytest.fixture
def expected(divided_run: divided_runs.DividedRun) -> dict[str, bytes]:
    """Return what a local aggregation makes of the divided run."""
    return divided_run.expected
