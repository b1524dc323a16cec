"""Hosts that share files but no locks."""

from __future__ import annotations

import os

import pytest
from aggregator.storage import leases


class Hosts:
    """Two hosts: those processes are on the same that see the same kernel."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch

    def go_to(self, name: str) -> None:
        self._patch.setattr(leases, "system", lambda: name)
        self._patch.setattr(leases.socket, "gethostname", lambda: name)


def grow_old(lease: str, seconds: float = leases.STALE_SECONDS + 1) -> None:
    """Let a lease not have been renewed for a while."""
    then = os.stat(lease).st_mtime - seconds
    os.utime(lease, (then, then))
