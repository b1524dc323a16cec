"""What a graph has to be once it is written anew: plain values, renewed without any of the product's code."""

from __future__ import annotations

import pathlib
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

from aggregator.schemas.graphs import id_masks, origins, provenance_graph, renewals, rewriting

RUN: Final = "u/sample/run1"
"""The sample's run."""

NEW_RUN: Final = 'prod/ä/run "1"'
"""Its new name."""

NAMES: Final = {RUN: NEW_RUN, "u/sample": "prod/sample"}
"""New names of its collections."""

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def renewed(value: Any, ids: Mapping[str, str], names: Mapping[str, str]) -> Any:
    """Return a value in which ids and names are replaced, those of keys, too."""
    return _changed(value, lambda text: _ID.sub(lambda m: ids.get(m[0], m[0]), names.get(text, text)))


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, Mapping):
        return {_changed(key, change): _changed(each, change) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return type(value)(_changed(each, change) for each in value)
    if isinstance(value, uuid.UUID):
        return uuid.UUID(change(str(value)))
    return change(value) if type(value) is str else value


def masked(text: str, mask: str) -> str:
    """Return an id with a mask."""
    return str(uuid.UUID(int=uuid.UUID(text).int ^ int(mask, 16)))


def renew(source: pathlib.Path, target: pathlib.Path, **changes: Any) -> renewals.Renewal:
    """Write a graph of the sample anew; changes are those of the renewal."""
    runs = {RUN: origins.Run(RUN, NEW_RUN, id_masks.derive(RUN, NEW_RUN).hex())}
    renewal = renewals.Renewal(**{"runs": runs, "chains": NAMES, **changes})
    with provenance_graph.ProvenanceGraph(str(source)) as graph, target.open("xb") as stream:
        origin = origins.begun(graph.path, graph.fingerprint)
        rewriting.Rewriter(graph, renewal, origin).write(stream)
    return renewal
