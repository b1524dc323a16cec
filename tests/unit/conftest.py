"""Fixtures of tests that need this process only."""

import pytest

from tests.helpers import lease_hosts


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> lease_hosts.Hosts:
    found = lease_hosts.Hosts(monkeypatch)
    found.go_to("first")
    return found
