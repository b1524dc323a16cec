"""What the execution's own files say about metadata, to be compared with a provenance graph's blocks."""

from __future__ import annotations

import json
import math
import pathlib
from typing import Any

import yaml


def files(
    repo_root: pathlib.Path, predicted_path: pathlib.Path
) -> dict[str, tuple[pathlib.Path, pathlib.Path]]:
    """Return the predicted log and metadata files of each quantum, found with the reference."""
    # Copies of one run are compared again and again, and the reference takes seconds to find its files.
    datastore = yaml.safe_load((repo_root / "butler.yaml").read_text()).get("datastore")
    key = repr(datastore).encode() + predicted_path.read_bytes()
    if key not in _names:
        _names.clear()
        _names[key] = _find(repo_root, predicted_path)
    return {node: (repo_root / log, repo_root / written) for node, (log, written) in _names[key].items()}


_names: dict[bytes, dict[str, tuple[str, str]]] = {}
"""Names of files in the repository, by configuration and predicted graph; of the last one only."""


def _find(repo_root: pathlib.Path, predicted_path: pathlib.Path) -> dict[str, tuple[str, str]]:
    import lsst.pipe.base.tests.mocks  # noqa: F401  (registers storage classes)
    from lsst.daf.butler import QuantumBackedButler
    from lsst.pipe.base.quantum_graph import PredictedQuantumGraphReader

    with PredictedQuantumGraphReader.open(str(predicted_path)) as reader:
        reader.read_dimension_data()
        reader.read_quantum_datasets()
        universe, nodes = reader.pipeline_graph.universe, reader.pipeline_graph.dataset_types.values()
        butler = QuantumBackedButler.from_predicted(
            str(repo_root), [], [], universe, {}, dataset_types={t.name: t.dataset_type for t in nodes}
        )
        refs = {
            str(node): [
                reader.components.make_dataset_ref(quantum.outputs[connection][0])
                for connection in ("_log", "_metadata")
            ]
            for node, quantum in reader.components.quantum_datasets.items()
        }
        uris = butler._datastore.getManyURIs([ref for pair in refs.values() for ref in pair], predict=True)
        butler.close()

    def name(ref: Any) -> str:
        path = pathlib.Path(uris[ref].primaryURI.ospath)
        return str(path.resolve().relative_to(repo_root.resolve()))

    return {node: (name(log), name(written)) for node, (log, written) in refs.items()}


def metadata(log: pathlib.Path, written: pathlib.Path) -> list[Any]:
    """Return the metadata of all attempts as the files have it (execution-files.md section 4.3)."""
    found, attempts = [], 1
    text = log.read_text() if log.exists() else ""
    if text.startswith('{"extended":true'):
        extra = json.loads(text)
    elif text.startswith("["):
        extra = {}
    else:
        extra = json.loads(text.partition("###EXTRA###\n")[2] or "{}")
    for previous in extra.get("previous_attempts", []):
        attempts += 1
        found.append(previous["metadata"])
    if extra.get("exception") is not None or extra.get("metadata") is not None:
        found.append(extra.get("metadata"))
    if written.exists():
        found.append(json.loads(written.read_text()))
    return found if len(found) >= attempts else [*found, None]


def completed(metadata: Any) -> Any:
    """Add the keys that task metadata may leave out."""
    if metadata is None:
        return None
    nested = {key: completed(value) for key, value in metadata.get("metadata", {}).items()}
    return {"scalars": metadata.get("scalars", {}), "arrays": metadata.get("arrays", {}), "metadata": nested}


def nulled(value: Any) -> Any:
    """Replace non-finite numbers by None, as the reference does."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: nulled(item) for key, item in value.items()}
    return [nulled(item) for item in value] if isinstance(value, list) else value


def floated(value: Any) -> Any:
    """Replace all that can be taken for a number by floats, as newer versions of the reference do."""
    if isinstance(value, dict):
        return {key: floated(item) for key, item in value.items()}
    if isinstance(value, list):
        return [floated(item) for item in value]
    try:
        return value if value is None else float(value)
    except ValueError:
        return value


def has_null(value: Any) -> bool:
    """Return whether there is a null anywhere."""
    if isinstance(value, dict):
        value = value.values()
    return any(map(has_null, value)) if not isinstance(value, str | int | float | None) else value is None
