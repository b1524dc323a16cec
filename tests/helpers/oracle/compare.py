"""Comparisons of databases and of provenance graphs; what only uses the reference imports it when called."""

from __future__ import annotations

import functools
import pathlib
import pickle
import uuid
from collections.abc import Collection
from typing import Any

from tests.helpers import databases
from tests.helpers.oracle import container, database, difference, originals, reference

Source = pathlib.Path | databases.Database
"""A database, a SQLite file, or a repository with one."""


def database_rows(source: Source) -> dict[str, Any]:
    """Return all tables of a repository's database in comparable form (see `database.rows`)."""
    return database.rows(source)


def assert_databases_equal(first: Source, second: Source, *, ignore: Collection[str] = ()) -> None:
    """Compare two databases of one kind; ``ignore`` names tables (or ``schema``)."""
    rows = [database.rows(path) for path in (first, second)]
    kept = [{table: content for table, content in each.items() if table not in ignore} for each in rows]
    difference.assert_same(*kept, f"Databases {first} and {second}")


def provenance_models(path: pathlib.Path) -> dict[str, Any]:
    """Return everything in a provenance graph as the reference's reader sees it.

    Returns
    -------
    models
        ``header``, ``pipeline_graph`` (JSON), ``quanta``, ``datasets``, ``edges`` (of the bipartite graph,
        with connections), ``quantum_edges``, ``init_quanta``, ``logs`` (by quantum id; None where there is no
        block), ``metadata`` (same; a `MetadataUnreadable` where the reader fails), ``packages``; and as plain
        JSON, since the reader derives edges and some ``produced`` flags from more than one place,
        ``dataset_blocks`` and ``quantum_blocks`` (the latter without attempts).
    """
    from lsst.pipe.base.quantum_graph import ProvenanceQuantumGraphReader

    raw = container.Container(path)
    with ProvenanceQuantumGraphReader.open(str(path)) as reader:
        reader.read_full_graph()
        graph = reader.graph
        nodes = dict(graph.bipartite_xgraph.nodes(data=True))
        quanta = {str(node): _quantum(info) for node, info in nodes.items() if "attempts" in info}
        datasets = {str(node): _dataset(info) for node, info in nodes.items() if "produced" in info}
        return {
            "header": reader.header.model_dump(mode="json"),
            "pipeline_graph": raw.single("pipeline_graph"),
            "quanta": quanta,
            "datasets": datasets,
            "edges": {
                (str(a), str(b)): _edge(info) for a, b, info in graph.bipartite_xgraph.edges(data=True)
            },
            "quantum_edges": {(str(a), str(b)) for a, b in graph.quantum_only_xgraph.edges},
            "init_quanta": {
                label: (str(node), str(nodes[node]["config_id"])) for label, node in graph.init_quanta.items()
            },
            "logs": _logs(reader, quanta),
            "metadata": _metadata(reader, quanta),
            "packages": dict(reader.fetch_packages()),
            "dataset_blocks": dataset_blocks(raw),
            "quantum_blocks": quantum_blocks(raw),
        }


@functools.lru_cache(maxsize=1)
def _pickled_models(path: pathlib.Path, _mtime_ns: int) -> bytes:
    return pickle.dumps(provenance_models(path))


class MetadataUnreadable(str):
    """Why the reference cannot read a block of metadata."""


def dataset_blocks(graph: container.Container) -> dict[str, Any]:
    """Return the blocks of ``datasets.mb`` by dataset id, with consumers sorted."""
    blocks = [graph.block("datasets", address) for address in graph.walk("datasets")]
    return {b["dataset_id"]: {**b, "consumers": sorted(b["consumers"])} for b in blocks}


def quantum_blocks(graph: container.Container) -> dict[str, Any]:
    """Return the blocks of ``quanta.mb`` by quantum id, without attempts."""
    blocks = [graph.block("quanta", address) for address in graph.walk("quanta")]
    return {b["quantum_id"]: {key: b[key] for key in b if key != "attempts"} for b in blocks}


def metadata_blocks(graph: container.Container) -> dict[str, Any]:
    """Return the attempts of each quantum's metadata block as plain JSON values with non-finite numbers."""
    rows = [(node, pairs) for node, _, pairs in graph.addresses("nodes") if pairs[1][1] and pairs[3][1]]
    return {str(node): graph.block("metadata", pairs[3])["attempts"] for node, pairs in rows}


def assert_provenance_equal(
    reference_path: pathlib.Path,
    our_path: pathlib.Path,
    repo_root: pathlib.Path,
    *,
    predicted_path: pathlib.Path | None = None,
    packages: bool = True,
    lossless: bool = True,
) -> None:
    """Compare a provenance graph with the one that the reference has written.

    The older reference writes non-finite numbers of metadata as null.  Metadata blocks with nulls are
    compared with the original files instead.  The newer one turns into floats what can be taken for a number,
    also texts: blocks are compared as if we did, and all of ours with the original files.

    Parameters
    ----------
    reference_path, our_path
        The provenance graphs.
    repo_root
        A repository that has the original log and metadata files.
    predicted_path
        The predicted graph; ``predicted.qg`` in the repository by default.
    packages
        Whether both were written in one environment.
    lossless
        Whether the second is expected to keep non-finite numbers.  False if it is the reference's, too.
    """
    predicted_path = predicted_path or repo_root / "predicted.qg"
    container.check_provenance(our_path, predicted_path)
    blocks = [metadata_blocks(container.Container(path)) for path in (reference_path, our_path)]
    # Many are compared with the same one, and reading it takes a second.
    theirs = pickle.loads(_pickled_models(reference_path, reference_path.stat().st_mtime_ns))
    models = [theirs, provenance_models(our_path)]
    for each in models:
        if not packages:
            del each["packages"]
        for quantum in each["quanta"].values():
            quantum["attempts"] = [_rounded(attempt) for attempt in quantum["attempts"]]
    theirs, ours = models
    if reference.is_newest():
        for node, quantum in ours["quanta"].items():
            pairs = zip(theirs["quanta"][node]["attempts"], quantum["attempts"], strict=True)
            quantum["attempts"] = [_with_whole_floats(*pair) for pair in pairs]
    unreadable = [node for node, found in theirs["metadata"].items() if isinstance(found, MetadataUnreadable)]
    for node in unreadable:
        readable = not isinstance(ours["metadata"][node], MetadataUnreadable)
        assert readable or not lossless, f"{our_path}: metadata of {node}: {ours['metadata'][node]}"
        del theirs["metadata"][node], ours["metadata"][node]
    # Non-finite numbers make models unequal to themselves; what the reader has read is in the blocks, too.
    theirs["metadata"], ours["metadata"] = set(theirs["metadata"]), set(ours["metadata"])
    difference.assert_same(theirs, ours, f"{reference_path} and {our_path}")
    files = originals.files(repo_root, predicted_path) if lossless else None
    _assert_metadata_blocks_equal(*blocks, files)


def _assert_metadata_blocks_equal(
    theirs: dict[str, Any], ours: dict[str, Any], files: dict[str, tuple[pathlib.Path, pathlib.Path]] | None
) -> None:
    full = {node: [originals.completed(entry) for entry in attempts] for node, attempts in ours.items()}
    if newest := reference.is_newest():
        difference.assert_same(originals.floated(theirs), originals.floated(full), "Metadata blocks")
    else:
        difference.assert_same(theirs, originals.nulled(full), "Metadata blocks")
    if files is not None:
        lossy = [node for node, attempts in theirs.items() if newest or originals.has_null(attempts)]
        written = {node: list(map(originals.completed, originals.metadata(*files[node]))) for node in lossy}
        ours_there = {node: full[node] for node in lossy}
        difference.assert_same(written, ours_there, "Original files and our metadata blocks")


def check_provenance(path: pathlib.Path, predicted_path: pathlib.Path) -> dict[str, int]:
    """Check the structure of a provenance graph without its reader (see `container.check_provenance`)."""
    return container.check_provenance(path, predicted_path)


def butler_gets_everything(root: pathlib.Path, run: str, missing: Collection[str] = (), step: int = 1) -> int:
    """Get every dataset of a run, or every n-th, with the reference's butler, by id and by data ID.

    Parameters
    ----------
    root
        The repository.
    run
        The run.
    missing
        Ids of the datasets whose files are known not to exist; they must be in the database all the same.
    step
        How many datasets to go on by, as each one read from a graph takes the butler a hundredth of a second.

    Returns
    -------
    count
        Number of datasets in the run.
    """
    import lsst.pipe.base.tests.mocks  # noqa: F401  (registers storage classes)
    from lsst.daf.butler import Butler

    failures = []
    with Butler.from_config(str(root), collections=run) as butler:
        refs = butler.query_all_datasets(run, find_first=False)
        absent = set(missing) - {str(ref.id) for ref in refs}
        assert not absent, f"not in the database: {absent}"
        for ref in refs[::step]:
            if str(ref.id) in missing:
                continue
            try:
                assert butler.get_dataset(ref.id) == ref
                by_id, by_data_id = butler.get(ref), butler.get(ref.datasetType, ref.dataId)
                assert type(by_id) is type(by_data_id)
            except Exception as error:
                failures.append(f"{ref}: {type(error).__name__}: {error}")
        assert not failures, "\n".join([f"{len(failures)} of {len(refs)} datasets not read:", *failures[:5]])
        return len(refs)


def _quantum(info: Any) -> dict[str, Any]:
    return {
        "task": info["task_label"],
        "data_id": dict(info["data_id"].mapping),
        "status": info["status"].name,
        "caveats": None if info["caveats"] is None else info["caveats"].value,
        "attempts": [attempt.model_dump(mode="json") for attempt in info["attempts"]],
        "metadata_id": str(info["metadata_id"]),
        "log_id": str(info["log_id"]),
    }


def _dataset(info: Any) -> dict[str, Any]:
    return {
        "type": info["dataset_type_name"],
        "data_id": dict(info["data_id"].mapping),
        "run": info["run"],
        "produced": info["produced"],
    }


def _edge(info: Any) -> dict[str, Any]:
    edges = sorted((edge.task_label, edge.connection_name) for edge in info.get("pipeline_edges", []))
    return {"is_read": info.get("is_read"), "connections": edges}


def _logs(reader: Any, quanta: dict[str, Any]) -> dict[str, Any]:
    """Fetch the logs of each quantum, by its own id and by that of its log dataset."""
    result = {}
    for node, quantum in quanta.items():
        ids = [uuid.UUID(node), uuid.UUID(quantum["log_id"])]
        for which, found in zip(("quantum", "dataset"), map(reader.fetch_logs(ids).get, ids), strict=True):
            result[f"{node} by {which}"] = found and [
                None if log is None else [record.model_dump(mode="json") for record in log] for log in found
            ]
    return result


def _metadata(reader: Any, quanta: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for node, quantum in quanta.items():
        ids = [uuid.UUID(node), uuid.UUID(quantum["metadata_id"])]
        try:
            result[node] = [
                [m and m.model_dump() for m in found] for found in reader.fetch_metadata(ids).values()
            ]
        except ValueError as error:
            result[node] = MetadataUnreadable(error)
    return result


def _with_whole_floats(theirs: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """Return an attempt of ours with those integers of its exception as floats that are so in theirs."""
    if theirs["exception"] is None or ours["exception"] is None:
        return ours
    given = theirs["exception"]["metadata"]
    values = {
        key: float(value) if type(value) is int and type(given.get(key)) is float else value
        for key, value in ours["exception"]["metadata"].items()
    }
    return {**ours, "exception": {**ours["exception"], "metadata": values}}


def _rounded(attempt: dict[str, Any]) -> dict[str, Any]:
    """Round times, which may be computed in another order, to nanoseconds."""
    usage = attempt["resource_usage"]
    if usage is not None:
        usage = {key: round(v, 9) + 0.0 if key.endswith(("_time", "_cpu")) else v for key, v in usage.items()}
    return {**attempt, "resource_usage": usage}
