"""Real runs, made once and copied for each use.

Nothing here needs the reference but `make_oracle_run`.
"""

from __future__ import annotations

import dataclasses
import filecmp
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

from tests.helpers import databases
from tests.helpers.oracle import damage

TROUBLE: dict[str, dict[str, str]] = {
    "isr": {
        "visit=101,detector=1": "raise,raise,raise",
        "visit=102,detector=1": "raise,ok",
        "visit=103,detector=1": "late,raise,ok",
        "visit=104,detector=2": "some",
        "visit=105,detector=3": "none",
        "visit=106,detector=1": "construct,ok",
        "visit=107,detector=1": "construct",
        "visit=110,detector=1": "ok,late",
    },
    "calibrate": {
        "visit=104,detector=4": "partial",
        "visit=108,detector=2": "nowork",
        "visit=108,detector=3": "unprocessable",
        "visit=108,detector=4": "upstream",
    },
    "measure": {
        "visit=109,detector=1": "late,ok",
        "visit=109,detector=2": "late",
        "visit=109,detector=3": "raise",
        "visit=109,detector=4": "raise",
        "visit=103,detector=2": "raise,late,ok",
    },
    "merge": {"patch=3": "raise,raise,ok"},
}
"""What is to happen to which quanta in which pass (see `tasks.OracleTaskConfig.plan`)."""

NOTHING = {"nothing": {"": "nowork"}}
"""The task that never writes anything."""

PASSES = 3


@dataclasses.dataclass(frozen=True, slots=True)
class OracleRun:
    """An executed run that nobody has aggregated yet."""

    workdir: pathlib.Path
    """Directory of everything that was made with the run; shared by its copies, not to be changed."""

    root: pathlib.Path
    """The repository."""

    run: str
    """Name of the output run."""

    chain: str
    """Name of the chain that shall hold the run."""

    manifest: dict[str, Any] = dataclasses.field(repr=False, compare=False)
    """Quanta in order of execution with their outputs' paths (see `tests.helpers.oracle.execution`)."""

    marks: dict[str, list[str]] = dataclasses.field(repr=False, compare=False)
    """Ids of what is special, by what is special about it.

    Quanta: ``rerun_failed`` (success, then failed again; descendants have files), ``no_metadata`` (only that
    was deleted), ``aborted`` (no log), ``crashed`` (neither log nor metadata), ``unlisted`` (a file on disk
    that its metadata does not list), ``without_outputs``, ``without_quantum``, ``without_caveats`` (what its
    metadata lacks), ``other_log_layout``.  Datasets: ``missing_files`` (listed as written, but deleted),
    ``missing_init_outputs``, ``logs_without_content`` (in the database only after the reference's
    ingest-graph, and not readable then).
    """

    postgresql: databases.Postgresql | None = None
    """The repository's database if it is no SQLite file."""

    @property
    def tables(self) -> databases.Database:
        """The repository's database of either kind."""
        return self.postgresql or databases.Sqlite(self.database)

    @property
    def predicted_path(self) -> pathlib.Path:
        """The predicted graph."""
        return self.root / "predicted.qg"

    @property
    def database(self) -> pathlib.Path:
        """The repository's SQLite file."""
        return self.root / "gen3.sqlite3"

    def quanta(self, task: str | None = None, **data_id: Any) -> Iterator[dict[str, Any]]:
        """Find manifest entries by task and part of the data ID."""
        for entry in self.manifest["quanta"]:
            if task in (None, entry["task"]) and data_id.items() <= entry["data_id"].items():
                yield entry

    def file(self, entry: dict[str, Any], connection: str) -> pathlib.Path:
        """Return the predicted file of an output (``_log``, ``_metadata`` or a task's connection)."""
        [(_, path)] = entry["outputs"][connection]
        return self.root / path

    def files(self, entry: dict[str, Any]) -> list[pathlib.Path]:
        """Return the predicted files of all outputs of a quantum."""
        return [self.root / path for outputs in entry["outputs"].values() for _, path in outputs]


def make_oracle_run(
    workdir: pathlib.Path,
    *,
    visits: int = 14,
    detectors: int = 5,
    patches: int = 4,
    trouble: bool = True,
    name: str = "u/oracle/run.1",
) -> OracleRun:
    """Execute a run in several passes with the reference, and let things go wrong on the way.

    Parameters
    ----------
    workdir
        A new directory for everything; the repository is ``repo`` in it.
    visits, detectors, patches
        Size of the run: ``visits * (3 * detectors + 2 + patches) + 4 * patches + 1`` quanta (with at least
        three visits).  All troubles happen only with 14 visits, 5 detectors and 4 patches, or more.
    trouble
        Whether things go wrong at all.
    name
        Name of the output run.

    Returns
    -------
    run
        The executed run, not aggregated.
    """
    import lsst.pipe.base.tests.mocks  # noqa: F401  (registers storage classes)

    from tests.helpers.oracle import execution, repository

    root = (workdir / "repo").resolve()
    root.mkdir(parents=True)
    plans = {**(TROUBLE if trouble else {}), **NOTHING}
    graph = repository.build(root, repository.Size(visits, detectors, patches), plans, name)
    quanta = execution.order(graph)
    manifest = execution.manifest(root, graph, quanta)
    run = OracleRun(workdir, root, name, repository.CHAIN, manifest, {})
    for number in range(PASSES if trouble else 1):
        if number == 1:
            _mark(run, "rerun_failed", _delete(run, "isr", ["_metadata"], visit=110, detector=1))
        execution.execute(root, graph, quanta, number, raise_on_partial_outputs=number == 0)
        _snapshot(run, f"pass{number + 1}")
    if trouble:
        _crash(run)
        _lose_outputs(run)
        _rewrite_metadata(run)
        _rewrite_logs(run)
        _lose_init_outputs(run)
    _snapshot(run, "final")
    (workdir / "run.json").write_text(json.dumps({"run": name, "manifest": run.manifest, "marks": run.marks}))
    return run


def load_run(workdir: pathlib.Path) -> OracleRun:
    """Return a run that was made earlier in a directory."""
    content = json.loads((workdir / "run.json").read_text())
    root = (workdir / "repo").resolve()
    return OracleRun(workdir, root, content["run"], "u/oracle", content["manifest"], content["marks"])


def copy_run(run: OracleRun, destination: pathlib.Path) -> OracleRun:
    """Copy the repository of a run into a new directory, and its database if that lies elsewhere."""
    shutil.copytree(run.root, destination)
    copy = dataclasses.replace(run, root=destination.resolve())
    if run.postgresql is None:
        return copy
    database = run.postgresql.copy()
    database.configure(copy.root)
    (copy.root / "gen3.sqlite3").unlink(missing_ok=True)
    return dataclasses.replace(copy, postgresql=database)


def remove_database(run: OracleRun) -> None:
    """Remove the database of a copy that does not lie in its directory."""
    if run.postgresql is not None:
        run.postgresql.remove()


def show(run: OracleRun, *, stage: str = "final", fraction: float = 1.0) -> int:
    """Take a copy of a run back (or forth) to how it looked while it was being executed.

    Files that are the same at that time are not touched.

    Parameters
    ----------
    run
        A copy of a run, made with `copy_run`.
    stage
        ``pass1``, ``pass2``, ``pass3`` (after that pass) or ``final`` (after the damage that followed).
    fraction
        Only the first quanta up to this fraction have files, in order of execution.

    Returns
    -------
    count
        The number of quanta that may have files.
    """
    source = run.workdir / "stages" / stage
    entries = run.manifest["quanta"]
    count = round(fraction * len(entries))
    for number, entry in enumerate(run.manifest["init"] + entries):
        hidden = number >= len(run.manifest["init"]) + count
        for path in run.files(entry):
            original = source / path.relative_to(run.root)
            if hidden or not original.exists():
                path.unlink(missing_ok=True)
            elif not path.exists() or not filecmp.cmp(original, path, shallow=True):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.unlink(missing_ok=True)
                shutil.copy2(original, path)
    return count


def _snapshot(run: OracleRun, stage: str) -> None:
    """Keep the files of the output run as they are now; hard links are enough as files are only replaced."""
    shutil.copytree(run.root / run.run, run.workdir / "stages" / stage / run.run, copy_function=os.link)


def _mark(run: OracleRun, what: str, ids: list[str]) -> None:
    run.marks.setdefault(what, []).extend(ids)


def _delete(run: OracleRun, task: str, connections: list[str], **data_id: Any) -> list[str]:
    entries = list(run.quanta(task, **data_id))
    for entry in entries:
        for connection in connections:
            run.file(entry, connection).unlink(missing_ok=True)
    return [entry["id"] for entry in entries]


def _crash(run: OracleRun) -> None:
    """Let processes die between, before and after their last writes."""
    for task, data_id in (
        ("isr", {"visit": 111, "detector": 2}),
        ("measure", {"visit": 112, "detector": 1}),
        ("measure", {"visit": 103, "detector": 2}),
        ("stack", {"patch": 1, "band": "g"}),
    ):
        _mark(run, "aborted", _delete(run, task, ["_log"], **data_id))
    _mark(run, "no_metadata", _delete(run, "calibrate", ["_metadata"], visit=111, detector=1))
    logless = ["_log", "_metadata"]
    _mark(run, "crashed", _delete(run, "measure", logless, visit=112, detector=2))
    _mark(run, "crashed", _delete(run, "measure", ["features", *logless], visit=112, detector=3))
    for entry in run.quanta():
        if entry["id"] in run.marks["crashed"]:
            _mark(run, "logs_without_content", [entry["outputs"]["_log"][0][0]])


def _lose_outputs(run: OracleRun) -> None:
    """Delete what is listed as written, and add what is not."""
    for task, connection, data_id in (
        ("calibrate", "background", {"visit": 113, "detector": 2}),
        ("measure", "features", {"visit": 113, "detector": 1}),
        ("stack", "stack", {"patch": 2, "band": "r"}),
    ):
        for entry in run.quanta(task, **data_id):
            run.file(entry, connection).unlink()
            _mark(run, "missing_files", [entry["outputs"][connection][0][0]])
    for entry in run.quanta("isr", visit=104, detector=2):
        for model in run.quanta("isr", visit=104, detector=3):
            damage.rewrite(run.file(entry, "stats"), run.file(model, "stats").read_text())
            _mark(run, "unlisted", [entry["id"]])


def _rewrite_metadata(run: OracleRun) -> None:
    changes = {2: damage.without_outputs, 3: damage.without_quantum, 4: damage.without_caveats}
    for detector, change in changes.items():
        for entry in run.quanta("isr", visit=114, detector=detector):
            damage.edit_metadata(run.file(entry, "_metadata"), change)
            _mark(run, change.__name__, [entry["id"]])


def _rewrite_logs(run: OracleRun) -> None:
    exception = {"type_name": "builtins.ValueError", "message": "Streamed.", "metadata": {}}
    changes: dict[tuple[str, int, int], Any] = {
        ("isr", 113, 2): damage.as_list,
        ("isr", 113, 3): lambda path: damage.rewrite(path, ""),
        ("isr", 113, 4): lambda path: damage.as_stream(path, {"metadata": {}}),
        ("isr", 113, 5): lambda path: damage.as_stream(path, None),
        ("isr", 114, 1): damage.without_extra,
        ("measure", 109, 4): lambda path: damage.as_stream(path, {"exception": exception, "metadata": {}}),
    }
    for (task, visit, detector), change in changes.items():
        for entry in run.quanta(task, visit=visit, detector=detector):
            change(run.file(entry, "_log"))
            _mark(run, "other_log_layout", [entry["id"]])


def _lose_init_outputs(run: OracleRun) -> None:
    for entry in run.manifest["init"]:
        for connection in {"measure": ["schema_out"], "merge": ["_config"]}.get(entry["task"], []):
            run.file(entry, connection).unlink()
            _mark(run, "missing_init_outputs", [entry["outputs"][connection][0][0]])
