"""Synthetic runs with all kinds of trouble."""

from __future__ import annotations

import contextlib
import pathlib
import sqlite3
from typing import Any

from aggregator.synthesis import campaign, parameters

TROUBLE: dict[str, Any] = {
    "quanta": 900,
    "log_size": 5000,
    "metadata_size": 5000,
    "output_size": 50,
    "failed": 0.02,
    "blocked": 0.05,
    "retried": 0.04,
    "caveats": 0.05,
    "aborted": 0.02,
}


def make(root: pathlib.Path, n_processes: int = 1, **changes: Any) -> campaign.Campaign:
    """Make a run."""
    asked = parameters.SynthesisParameters(**{**TROUBLE, **changes})
    return campaign.synthesize(str(root), asked, n_processes=n_processes, interactive_status=False)


def content(root: pathlib.Path | str) -> dict[str, bytes]:
    """Return the files of a run by path; of the database the rows, but for the time of ingestion."""
    found = {}
    for path in sorted(pathlib.Path(root).rglob("*")):
        name = str(path.relative_to(root))
        if path.name == "gen3.sqlite3":
            with contextlib.closing(sqlite3.connect(path)) as connection, connection:
                tables = [
                    t for (t,) in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
                ]
                rows = {t: connection.execute(f"SELECT * FROM {t}").fetchall() for t in sorted(tables)}
            connection.close()
            rows["dataset"] = [(*row[:2], *row[3:]) for row in rows["dataset"]]
            found[name] = repr({t: sorted(r, key=repr) for t, r in rows.items()}).encode()
        elif path.is_file():
            found[name] = path.read_bytes()
    return found
