"""Predicted graphs of plain tasks (`plain_tasks`), made of those of synthetic runs before they are run."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
import zipfile
from collections.abc import Mapping
from typing import Any

import zstandard
from aggregator.execution import graph_context, graph_quanta, readiness

from tests.helpers import small_runs

_STORAGE_CLASS = "StructuredDataDict"
_PIPELINE = "pipeline_graph.json.zst"
_TOLD = "config.told"


@dataclasses.dataclass(frozen=True, slots=True)
class PlainRun:
    """A repository with a graph of plain tasks."""

    root: pathlib.Path
    """The repository."""

    @property
    def graph(self) -> pathlib.Path:
        """The predicted graph."""
        return self.root / "predicted.qg"

    def copy(self, root: pathlib.Path) -> PlainRun:
        """Return a copy."""
        shutil.copytree(self.root, root)
        copy = PlainRun(root)
        copy.connect()
        return copy

    def connect(self) -> None:
        """Let the tasks look into this repository for what they are told."""

        def change(document: dict[str, Any]) -> None:
            for task in document["tasks"].values():
                lines = [line for line in task["config_str"].splitlines() if not line.startswith(_TOLD)]
                task["config_str"] = "\n".join([*lines, f"{_TOLD} = {str(self.root / 'told.json')!r}"]) + "\n"

        _rewrite(self.graph, change)

    def lose_class(self, label: str) -> None:
        """Let the class of a task be one that can't be imported."""
        _rewrite(self.graph, lambda document: document["tasks"][label].update(task_class="nowhere.Task"))

    def quanta(self) -> list[readiness.QuantumData]:
        """Return all quanta."""
        with graph_context.GraphContext(str(self.graph), str(self.root)) as context:
            return list(graph_quanta.GraphQuanta(context))

    def tell(self, modes: Mapping[str, Mapping[str, str]], marks: str = "") -> None:
        """Tell tasks what to do.

        Parameters
        ----------
        modes
            What to do by task label, and values of required dimensions with slashes between them.
        marks
            Directory in which each quantum that runs leaves a file.
        """

        (self.root / "told.json").write_text(json.dumps({"modes": modes, "marks": marks}))


def make(root: pathlib.Path, quanta: int) -> PlainRun:
    """Make a repository with a graph."""
    run = small_runs.make(root, quanta)
    shutil.rmtree(run.run_directory)
    _rewrite(run.predicted, _as_plain)
    made = PlainRun(root)
    made.connect()
    return made


def _as_plain(document: dict[str, Any]) -> None:
    produced = set()
    for task in document["tasks"].values():
        edges = [*task["outputs"].values(), *task["init"]["outputs"].values()]
        produced |= {edge["dataset_type_name"] for edge in edges}
    for name in produced:
        document["dataset_types"][name]["storage_class"] = _STORAGE_CLASS
    for task in document["tasks"].values():
        task["task_class"] = "tests.helpers.plain_tasks.ToldTask"
        groups = {
            "inputs": task["inputs"],
            "prerequisites": task["prerequisite_inputs"],
            "outputs": task["outputs"],
            "init_inputs": task["init"]["inputs"],
            "init_outputs": task["init"]["outputs"],
        }
        lines = []
        for group, edges in groups.items():
            for edge in edges.values():
                if edge["dataset_type_name"] in produced:
                    edge["storage_class"] = _STORAGE_CLASS
            many = group in ("inputs", "prerequisites")
            told = {
                name: (each["dataset_type_name"], each["storage_class"], (), many)
                for name, each in edges.items()
            }
            lines.append(f"config.{group} = {told!r}")
        task["config_str"] = "\n".join(lines) + "\n"


def _rewrite(graph: pathlib.Path, change: Any) -> None:
    """Change the pipeline graph in a graph."""
    with zipfile.ZipFile(graph) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    dictionary = members.get("compression_dict")
    chosen = zstandard.ZstdCompressionDict(dictionary) if dictionary else None
    document = json.loads(zstandard.ZstdDecompressor(dict_data=chosen).decompress(members[_PIPELINE]))
    change(document)
    members[_PIPELINE] = zstandard.ZstdCompressor(1).compress(json.dumps(document).encode())
    with zipfile.ZipFile(graph, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
