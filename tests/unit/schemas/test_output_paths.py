"""Paths that may be written: what is there tells, and what must stay as it is."""

from __future__ import annotations

import contextlib
import os
import pathlib
import sqlite3

import pytest
from aggregator.schemas import output_kinds, output_paths
from aggregator.storage import errors, machine_trouble

Kind = output_kinds.Kind
NOTHING = output_paths.Protection()

BEGINS = {
    Kind.REPORT: b"# Run u/run\n",
    Kind.LOG: b"INFO 2026-01-01 message\n",
    Kind.PROFILE: b"{\xda\x01x",
    Kind.SUMMARY: b'{"format":"aggregator-summary","version":1}',
    Kind.METRICS: b"# HELP aggregator_quanta Number\n",
}
GRAPHS = (Kind.GRAPH, Kind.PREDICTED_GRAPH)
NAMES = {Kind.LOG: "x.txt", Kind.PROFILE: "x.profile", **dict.fromkeys(GRAPHS, "x.qg")}


@pytest.mark.parametrize("kind", Kind)
def test_graphs_have_the_extension_that_readers_want(tmp_path: pathlib.Path, kind: Kind) -> None:
    for name in ("x.txt", "x", ".qg", "x.qg.txt"):
        if kind not in GRAPHS:
            output_paths.check(str(tmp_path / name), kind, NOTHING)
            continue
        with pytest.raises(errors.RefusedError, match=r"must have the extension \.qg"):
            output_paths.check(str(tmp_path / name), kind, NOTHING)


@pytest.mark.parametrize("kind", Kind)
def test_only_files_of_the_same_kind_are_replaced(tmp_path: pathlib.Path, kind: Kind) -> None:
    path = tmp_path / NAMES.get(kind, "x")
    output_paths.check(str(path), kind, NOTHING)
    path.write_bytes(b"")
    if kind is not Kind.PREDICTED_GRAPH:
        output_paths.check(str(path), kind, NOTHING)
    for content in (*BEGINS.values(), b"PK\x03\x04 no archive", b"\0notes", b"notes"):
        path.write_bytes(content)
        # A profile begins as any dictionary does.
        if content == BEGINS.get(kind) or (kind is Kind.PROFILE and content[:1] == b"{"):
            output_paths.check(str(path), kind, NOTHING)
        else:
            reason = ", and is not" if kind is Kind.PREDICTED_GRAPH else f" and is no {kind.value}"
            with pytest.raises(errors.RefusedError, match=f"is there already{reason}"):
                output_paths.check(str(path), kind, NOTHING)


def test_a_predicted_graph_does_not_replace_a_link_that_leads_nowhere(tmp_path: pathlib.Path) -> None:
    (tmp_path / "x.qg").symlink_to(tmp_path / "nowhere")
    output_paths.check(str(tmp_path / "x.qg"), Kind.GRAPH, NOTHING)
    with pytest.raises(errors.RefusedError, match="is not replaced"):
        output_paths.check(str(tmp_path / "x.qg"), Kind.PREDICTED_GRAPH, NOTHING)


def test_a_log_by_name_may_hold_what_others_write(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "shared.log"
    path.write_bytes(b"some text")
    output_paths.check(str(path), Kind.LOG, NOTHING)
    with pytest.raises(errors.RefusedError, match="is no log"):
        output_paths.check(str(path), Kind.LOG, output_paths.Protection(roots=[str(tmp_path)]))
    path.write_bytes(b"some\0data")
    with pytest.raises(errors.RefusedError, match="is no log"):
        output_paths.check(str(path), Kind.LOG, NOTHING)


def test_an_empty_file_in_a_repository_may_be_a_dataset(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "run" / "type" / "x"
    path.parent.mkdir(parents=True)
    path.touch()
    output_paths.check(str(path), Kind.REPORT, NOTHING)
    (tmp_path / "butler.yaml").touch()
    with pytest.raises(errors.RefusedError, match="is no report"):
        output_paths.check(str(path), Kind.REPORT, NOTHING)


def test_what_cannot_be_looked_at_is_not_replaced(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Be it a name that is too long, or a file that nobody may read."""
    with pytest.raises(errors.RefusedError, match="File name too long"):
        output_paths.check(str(tmp_path / ("x" * 300)), Kind.REPORT, NOTHING)
    path = tmp_path / "x"
    path.write_text("# Run")
    real = machine_trouble.attempt

    def attempt(name: str, work: object, *arguments: object) -> object:
        if work is open:
            raise PermissionError(13, "Permission denied", name)
        return real(name, work, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(machine_trouble, "attempt", attempt)
    with pytest.raises(errors.RefusedError, match=r"can't see what it is \(Permission denied\)"):
        output_paths.check(str(path), Kind.REPORT, NOTHING)


def test_protected_files_are_known_by_whatever_name(tmp_path: pathlib.Path) -> None:
    original, hard, soft = (tmp_path / name for name in ("original", "hard", "soft"))
    original.write_bytes(BEGINS[Kind.REPORT])
    os.link(original, hard)
    soft.symlink_to(original)
    protection = output_paths.Protection(
        files={str(tmp_path / "gone"): "nothing", str(original): "the one"},
        directories={str(tmp_path / "kept"): "which is kept"},
    )
    for path in (original, hard, soft, tmp_path / "." / "original"):
        with pytest.raises(errors.RefusedError, match="is the one, which is not replaced"):
            output_paths.check(str(path), Kind.REPORT, protection)
    with pytest.raises(errors.RefusedError, match="is nothing, which is not replaced"):
        output_paths.check(str(tmp_path / "gone"), Kind.REPORT, protection)
    for place in ("kept/x", "kept/deep/x"):
        with pytest.raises(errors.RefusedError, match="which is kept"):
            output_paths.check(str(tmp_path / place), Kind.REPORT, protection)
        with pytest.raises(errors.RefusedError, match="which is kept"):
            output_paths.check_directory(str(tmp_path / place), protection)
    output_paths.check(str(tmp_path / "kept too"), Kind.REPORT, protection)


def test_an_output_needs_its_directory(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(errors.RefusedError, match="its directory does not exist"):
        output_paths.Output(str(tmp_path / "missing" / "x"), Kind.SUMMARY)
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "deep"):
        with pytest.raises(errors.RefusedError, match=f"{tmp_path}/file is no directory"):
            output_paths.check_writeable(str(place))
    output_paths.check_writeable(str(tmp_path / "not" / "yet"))
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(errors.RefusedError, match=f"nothing can be written in {tmp_path}. Choose"):
        output_paths.check_writeable(str(tmp_path / "not" / "yet"))


def test_a_refused_output_is_never_written(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "summary.json"
    first, second = (output_paths.Output(str(path), Kind.SUMMARY) for _ in range(2))
    with pytest.raises(errors.RefusedError, match="is another output of this command"):
        output_paths.check_all([first, second], NOTHING)
    second.write(BEGINS[Kind.SUMMARY])
    assert not path.exists()
    first.write(BEGINS[Kind.SUMMARY])
    assert path.read_bytes() == BEGINS[Kind.SUMMARY]


def test_what_an_earlier_command_has_written_is_removed(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "summary.json"
    output = output_paths.Output(str(path), Kind.SUMMARY)
    output.remove()
    # Somebody has made it for us.
    path.touch()
    output.remove()
    assert path.exists()
    path.write_bytes(BEGINS[Kind.SUMMARY])
    output.remove()
    assert not path.exists()


def test_what_comes_meanwhile_is_not_replaced(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "report"
    output = output_paths.Output(str(path), Kind.REPORT)
    path.write_text("my notes")
    with pytest.raises(
        errors.AggregatorError, match="has come there while the command was running"
    ) as caught:
        output.write(b"# Run")
    assert caught.value.exit_code == 1
    assert path.read_text() == "my notes"


@pytest.mark.parametrize("end", ["-journal", "-wal", "-shm"])
def test_what_is_beside_a_database_is_its_own(tmp_path: pathlib.Path, end: str) -> None:
    """Also of one that no command was told of."""
    with contextlib.closing(sqlite3.connect(tmp_path / "any.db")) as database:
        database.execute("CREATE TABLE x (y)")
    (tmp_path / "notes").write_text("no database")
    for kind in Kind:
        if kind not in GRAPHS:
            output_paths.check(str(tmp_path / f"notes{end}"), kind, NOTHING)
        with pytest.raises(errors.RefusedError, match=r"is a part of the database .*any\.db, which"):
            output_paths.check(str(tmp_path / f"any.db{end}"), kind, NOTHING)


@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/new.qg", "/dev/fd/1", "/proc/self/fd/1"])
def test_names_of_the_system_are_not_replaced(path: str) -> None:
    """A link would be replaced, and with it the standard output of everybody."""
    with pytest.raises(errors.RefusedError, match="is a name of the operating system"):
        output_paths.check(path, Kind.GRAPH, NOTHING)


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.GRAPH])
def test_only_graphs_go_to_object_stores(kind: Kind) -> None:
    for path in ("s3://bucket/here", "davs://host/here"):
        with pytest.raises(errors.RefusedError, match=f"{path}: only local files can be .* a {kind.value}"):
            output_paths.check(path, kind, NOTHING)
        with pytest.raises(errors.RefusedError, match=f"{path}: only local files"):
            output_paths.Output(path, kind)
