"""A repository with an ingested graph, and what becomes of it in a merge under other names and ids."""

from __future__ import annotations

import pathlib
from typing import Any

import aggregator
from tests.helpers import transfer_case

NEW_RUN = "prod/run1"

RULES = (r"u/sample(.*)=prod\1", r"u/(t.*|e.*)=prod/\1")
"""New names of all collections that begin with ``u/``."""

RENEW = aggregator.MergeConfig(ids="renew", rename=RULES)

EVERYTHING = aggregator.Selection(collections=("*",))


def make(directory: pathlib.Path) -> pathlib.Path:
    """Make the repository, from the sample."""
    repo = transfer_case.make(directory)
    aggregator.ingest_graph(str(repo), str(repo.parent / "provenance.qg"), transfer="copy")
    return repo


def content(root: pathlib.Path) -> Any:
    """Return what a repository holds, but for what tells of its place."""
    found = transfer_case.content(root, EVERYTHING)
    for batch in (batch for batches in found.values() for batch in batches if "files" in batch):
        batch["files"] = [
            [record[0], *record[2:-1], None if str(record[2]).endswith(".qg") else record[-1]]
            for record in batch["files"]
        ]
    return found


def refs(root: pathlib.Path, run: str) -> dict[tuple[str, str], Any]:
    """Return type and data ID of each dataset of a run, with its id and what is read of it."""
    import lsst.pipe.base.tests.mocks  # noqa: F401  (registers storage classes)
    from lsst.daf.butler import Butler

    with Butler.from_config(str(root)) as butler:
        refs = butler.query_all_datasets(run, find_first=False, limit=None)
        return {
            (ref.datasetType.name, str(ref.dataId)): (ref.id, _read(butler, ref))
            for ref in refs
            if ref.datasetType.name != "run_provenance"
        }


def _read(butler: Any, ref: Any) -> Any:
    try:
        value = butler.get(ref)
    except (FileNotFoundError, ValueError) as exc:
        # Old graphs have numbers that their own reader does not take.
        return type(exc).__name__
    for name in ("model_dump", "to_json_data", "toDict", "saveToString"):
        if hasattr(value, name):
            return getattr(value, name)() if name != "saveToString" else type(value).__name__
    return repr(value)
