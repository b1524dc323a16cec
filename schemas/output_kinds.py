"""Kinds of files that commands write, and how a file shows that it is of one."""

from __future__ import annotations

import enum
import os
import re

import msgspec
from aggregator.storage import errors, machine_trouble

_HEAD_SIZE = 4096


class Kind(enum.Enum):
    """Kinds of files that commands write."""

    GRAPH = "provenance graph"
    PREDICTED_GRAPH = "predicted graph"
    REPORT = "report"
    LOG = "log"
    PROFILE = "profile"
    SUMMARY = "summary"
    EXECUTION_REPORT = "report on an execution"
    METRICS = "file of metrics"
    PACK = "pack"
    CONFLICTS = "list of conflicts"
    TRANSFER_MANIFEST = "manifest of a transfer"
    PRODUCT = "product of a stage"


_REPORTS = re.compile(
    rb"Task  |"
    rb'\{"format":"aggregator-provenance-report"|'
    rb"version,task,status,|"
    rb"# Run |"
    rb'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    rb'<meta http-equiv="Content-Security-Policy" content="default-src |'
    rb"# %ECSV 1\.0\n# ---\n# datatype:\n|"
    rb'\{\}\n$|\{\n"[^"\n]+": \{"[A-Z_]+": \{'
)
"""Begin of reports in all formats, of status reports, and of tables of data IDs."""

_LOGS = re.compile(rb'[A-Z]{4,} |\{"name": ')
"""Begin of logs, as text and as JSON lines."""

_SUMMARIES = b'{"format":"aggregator-summary",'
"""Begin of a summary document."""

_EXECUTION_REPORTS = b'{\n  "qgraphSummary":'
"""Begin of a report on an execution, be it the middleware's."""

_METRICS = b"# HELP aggregator_"
"""Begin of a file of metrics."""

_MANIFESTS = (b'{"manifest":', b'# {"manifest":', b"\x28\xb5\x2f\xfd")
"""Begin of a manifest, plain or compressed."""

_CONFLICTS = b'{"kind":"'
"""Begin of a list of what stands in the way of a transfer."""

_PRODUCTS = re.compile(
    rb"SIMPLE  =|\x93QGITEM|\{\"format\":\"aggregator-item\",|#<\?cfg paf policy|\x80[\x02-\x05]"
)
"""Begin of what storages of stages write: FITS files, archives, documents, policies, and pickles."""

_PROFILES = re.compile(rb"[{\xfb]")
"""Begin of a profile: a dictionary, marshalled."""


def check_name(path: str, kind: Kind) -> None:
    """Refuse a name that no file of a kind can have: readers want an extension of graphs.

    Raises
    ------
    RefusedError
        If it is one.
    """
    if kind in (Kind.GRAPH, Kind.PREDICTED_GRAPH) and os.path.splitext(path)[1] != ".qg":
        raise errors.RefusedError(f"{path}: a {kind.value} must have the extension .qg. Choose another name.")


def is_of(path: str, kind: Kind, is_stored: bool) -> bool:
    """Return whether a regular file is of a kind.

    Parameters
    ----------
    path
        The file.
    kind
        The kind.
    is_stored
        Whether it may be a dataset; otherwise an empty file is of any kind but a predicted graph.

    Raises
    ------
    RefusedError
        If it can't be read.
    """
    try:
        with machine_trouble.attempt(path, open, path, "rb") as stream:
            head = machine_trouble.attempt(path, stream.read, _HEAD_SIZE)
    except OSError as exc:
        raise errors.RefusedError(f"{path}: can't see what it is ({exc.strerror}). Remove it.") from exc
    if not head and kind is not Kind.PREDICTED_GRAPH:
        return not is_stored
    match kind:
        case Kind.GRAPH:
            return is_provenance_graph(path)
        case Kind.PREDICTED_GRAPH:
            # Nothing is replaced: without it nobody could aggregate what was executed of it.
            return False
        case Kind.REPORT:
            return _REPORTS.match(head) is not None
        case Kind.LOG:
            # Others may write to the same log.
            is_shared = path.endswith(".log") and b"\0" not in head and not is_stored
            return is_shared or _LOGS.match(head) is not None
        case Kind.PROFILE:
            return path.endswith(".profile") and _PROFILES.match(head) is not None
        case Kind.SUMMARY:
            return head.startswith(_SUMMARIES)
        case Kind.EXECUTION_REPORT:
            return head.startswith(_EXECUTION_REPORTS)
        case Kind.METRICS:
            return head.startswith(_METRICS)
        case Kind.PACK:
            # Whoever only writes a log needs none of its libraries.
            from aggregator.schemas import pack_reader

            return pack_reader.is_begin(head)
        case Kind.TRANSFER_MANIFEST:
            return not is_stored and head.startswith(_MANIFESTS)
        case Kind.CONFLICTS:
            return head.startswith(_CONFLICTS)
        case Kind.PRODUCT:
            return not is_stored and _PRODUCTS.match(head) is not None


def is_provenance_graph(path: str) -> bool:
    """Return whether a file or an object is a provenance graph."""
    # Whoever only writes a log needs none of its libraries.
    from aggregator.schemas.graphs import container

    try:
        with container.Container(path) as opened:
            header = msgspec.json.decode(opened.read_block("header"), type=_Header)
    except errors.MachineError:
        raise
    except (errors.AggregatorError, msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return header.graph_type == "provenance"


class _Header(msgspec.Struct):
    graph_type: str = ""
