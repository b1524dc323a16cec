"""Datastores of two repositories, of which one must not be inside the other."""

from __future__ import annotations

import os

from aggregator.butler.configuration import repository_config
from aggregator.storage import errors, uris


def check(source: repository_config.RepositoryConfig, target: repository_config.RepositoryConfig) -> None:
    """Refuse datastores one of which is inside the other; they may have one root.

    What one repository takes for a file of its own would be a file of the other, and be replaced or removed
    as if it were nobody else's.

    Raises
    ------
    RefusedError
        If there are such.
    """
    for theirs in {store.root for store in source.datastores}:
        for ours in {store.root for store in target.datastores}:
            first, second = _parts(theirs), _parts(ours)
            if first == second or first[: len(second)] != second[: len(first)]:
                continue
            raise errors.RefusedError(
                f"{ours}: is inside the other repository ({theirs}), or has that inside. Choose a place "
                "beside it."
            )


def _parts(root: str) -> list[str]:
    """Return the parts of the path of a root, after the host or bucket if it is remote."""
    if uris.is_remote(root):
        parsed = uris.parse(root)
        return [f"{parsed.scheme}://{parsed.authority}", *filter(None, parsed.prefix.split("/"))]
    return ["", *filter(None, os.path.realpath(root).split("/"))]
