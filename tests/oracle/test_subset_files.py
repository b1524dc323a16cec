"""Ways in which files come to the destination of `subset`: by us, by another system, or not at all."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import os
import pathlib
import shutil
import sqlite3
from typing import Any

import pytest
import zstandard
from click import testing

import aggregator
from aggregator.command_line import main
from tests.helpers import databases, samples, transfer_case
from tests.helpers.oracle import difference

FULL = aggregator.TransferConfig(registry="full")


def _files(root: pathlib.Path) -> dict[str, bytes]:
    """Return the files of datasets."""
    return {
        name: content
        for name, content in samples.tree(root).items()
        if not name.startswith(("butler.yaml", "gen3.sqlite3")) and not name.endswith(".qg")
    }


def _records(root: pathlib.Path) -> list[Any]:
    database = databases.Sqlite(root / "gen3.sqlite3")
    return sorted(database.query("SELECT * FROM file_datastore_records"), key=repr)


@pytest.fixture
def source(transfer_source: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """Return a source that may be changed."""
    return pathlib.Path(shutil.copytree(transfer_source, tmp_path / "source"))


def _subset(source: pathlib.Path, target: pathlib.Path, **options: Any) -> aggregator.TransferReport:
    return aggregator.subset(source, target, transfer_case.ALL, dataclasses.replace(FULL, **options))


@pytest.mark.parametrize("mode", ["hardlink", "symlink", "relsymlink", "copy"])
def test_each_way_brings_all_files(transfer_source: pathlib.Path, tmp_path: pathlib.Path, mode: str) -> None:
    target = tmp_path / "target"
    _subset(transfer_source, target, files=mode)
    paths = [target / path for (_, path, *_) in _records(target)]
    assert len(paths) > 50
    for path in paths:
        assert path.is_symlink() == mode.endswith("symlink")
        if path.is_symlink():
            assert os.readlink(path).startswith("..") == (mode == "relsymlink")
        original = transfer_source / path.relative_to(target)
        assert path.samefile(original) == (mode != "copy")
        assert path.read_bytes() == original.read_bytes()
    assert _records(target) == _records(transfer_source)


def test_files_can_stay_where_they_are(transfer_source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    import lsst.daf.butler as daf
    import lsst.pipe.base.tests.mocks  # noqa: F401  (registers storage classes)

    target = tmp_path / "target"
    _subset(transfer_source, target, files="direct")
    assert _files(target) == {}
    with daf.Butler.from_config(str(target), collections=transfer_case.RUN) as butler:
        for ref in butler.query_all_datasets(transfer_case.RUN, find_first=False):
            butler.get(ref)
    again = tmp_path / "again"
    _subset(target, again, files="copy")
    assert len(_files(again)) == len(_records(again)) > 50, "absolute paths become those of the templates"
    with daf.Butler.from_config(str(again), collections=transfer_case.RUN) as butler:
        for ref in butler.query_all_datasets(transfer_case.RUN, find_first=False):
            assert butler.getURI(ref).ospath.startswith(str(again))
            butler.get(ref)


def test_what_is_moved_is_in_one_place(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    target, files, records = tmp_path / "target", _files(source), _records(source)
    content = transfer_case.content(source)
    known = {path for (_, path, *_) in records}
    _subset(source, target, files="move")
    assert _records(target) == records
    assert _files(target) == {path: files[path] for path in known}
    assert _records(source) == []
    assert _files(source) == {path: text for path, text in files.items() if path not in known}
    difference.assert_same(content, transfer_case.content(target), "Repositories")
    again = _subset(source, target, files="move")
    assert (again.done.datasets_added, again.done.files_brought) == (0, 0)


@pytest.mark.parametrize("place", ["links", "shared root", "linked root", "damaged"])
def test_nothing_is_moved_that_the_destination_would_lose(
    source: pathlib.Path, tmp_path: pathlib.Path, place: str
) -> None:
    target, files, records = tmp_path / "target", _files(source), _records(source)
    damaged = next(path for (_, path, *_) in records if "clean_image" in path)
    if place in ("links", "damaged"):
        _subset(source, target, files="symlink" if place == "links" else "copy")
    else:
        _subset(source, target, files="none")
        (tmp_path / "elsewhere").symlink_to(source)
        root = source if place == "shared root" else tmp_path / "elsewhere"
        text = (target / "butler.yaml").read_text()
        (target / "butler.yaml").write_text(text.replace("root: <butlerRoot>", f"root: {root}"))
        assert str(root) in (target / "butler.yaml").read_text()
    if place == "damaged":
        (target / damaged).write_bytes(b"else")
    report = _subset(source, target, files="move")
    if place == "damaged":
        assert report.done.datasets_staying == 1
        assert [path for (_, path, *_) in _records(source)] == [damaged]
        assert (source / damaged).read_bytes() == files[damaged]
    else:
        assert report.done.datasets_staying == len({dataset_id for (dataset_id, *_) in records})
        assert (_files(source), _records(source)) == (files, records)
        assert "were not moved" in "\n".join(report.lines())


def test_nothing_of_a_hostile_manifest_is_recorded(
    transfer_source: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    target, manifest = tmp_path / "target", tmp_path / "files.jsonl"
    _subset(transfer_source, target, files="manifest", manifest_path=manifest)
    shutil.copytree(transfer_source / "u", target / "u")
    head, *lines = manifest.read_text().splitlines()
    head = json.dumps(json.loads(head) | {"files": 1})
    entry = next(line for line in map(json.loads, lines) if line["path"].startswith("u/"))
    for changes in (
        *({"path": path} for path in (".", "..", "u/../u", "", "u//x", "a\0b", "/etc/passwd", "s3://a/b")),
        *({"path": path} for path in ("butler.yaml", "gen3.sqlite3", "butler.yaml#zip-path=x")),
        {"ids": ["zz"]},
        {"ids": [entry["ids"][0].upper()]},
    ):
        manifest.write_text(f"{head}\n{json.dumps(entry | changes)}\n")
        with pytest.raises(aggregator.RefusedError, match="make the manifest again"):
            aggregator.confirm(target, manifest)
    manifest.write_text(f"{head}\n{json.dumps(entry | {'path': 'u', 'size': None})}\n")
    with pytest.raises(aggregator.AggregatorError, match="is a directory"):
        aggregator.confirm(target, manifest)
    assert _records(target) == []


def test_no_record_leads_to_what_is_the_repositorys_own(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    target = tmp_path / "target"
    with contextlib.closing(sqlite3.connect(source / "gen3.sqlite3")) as connection, connection:
        query = "UPDATE file_datastore_records SET path = 'butler.yaml' WHERE path = ?"
        path = next(path for (_, path, *_) in _records(source) if "clean_image" in path)
        connection.execute(query, [path])
    with pytest.raises(aggregator.RefusedError, match=r"C13: .* is the repository's own"):
        _subset(source, target, files="copy", overwrite_orphans=True)
    assert not target.exists()
    aggregator.create_repository(target, dimension_config=transfer_case.dimensions(source))
    before = samples.tree(target)
    with pytest.raises(aggregator.RefusedError, match=r"C13: .* is the repository's own"):
        _subset(source, target, files="copy", overwrite_orphans=True)
    assert samples.tree(target) == before


def test_what_is_the_repositorys_own_is_never_moved(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    target = tmp_path / "target"
    (source / "in" / "way").symlink_to("..")
    with contextlib.closing(sqlite3.connect(source / "gen3.sqlite3")) as connection, connection:
        images = [path for (_, path, *_) in _records(source) if "clean_image" in path]
        query = "UPDATE file_datastore_records SET path = ? WHERE path = ?"
        connection.execute(query, ["gen3.sqlite3", images[0]])
        connection.execute(query, ["in/way/gen3.sqlite3", images[1]])
    database = f"sqlite:///{tmp_path}/elsewhere.sqlite3"
    others = [source / path for (_, path, *_) in _records(source) if not path.endswith("gen3.sqlite3")]
    _subset(source, target, files="move", database=database)
    assert _records(source) == []
    assert not [path for path in others if path.exists()]


@pytest.mark.parametrize("is_inside", [True, False])
def test_no_repository_is_inside_the_other(
    source: pathlib.Path, tmp_path: pathlib.Path, is_inside: bool
) -> None:
    (tmp_path / "link").symlink_to(source)
    target = tmp_path / "link" / "u" if is_inside else tmp_path
    before = samples.tree(tmp_path)
    with pytest.raises(aggregator.RefusedError, match="inside"):
        _subset(source, target)
    assert samples.tree(tmp_path) == before


def test_a_list_of_ids_has_to_be_one(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    command = ["subset", str(source), str(tmp_path / "target"), "--ids"]
    (tmp_path / "ids").write_text("0123\n")
    for name in ("no", "ids", "."):
        done = testing.CliRunner().invoke(main.main, [*command, str(tmp_path / name)])
        assert done.exit_code == 2, done.output
    assert not (tmp_path / "target").exists()


def test_outputs_are_no_part_of_a_repository_that_is_going_to_be_made(
    transfer_source: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    target = tmp_path / "target"
    for name in ("butler.yaml", "gen3.sqlite3"):
        with pytest.raises(aggregator.RefusedError, match="of the repository"):
            _subset(transfer_source, target, files="manifest", manifest_path=target / name)
    with pytest.raises(aggregator.RefusedError, match="there are tables"):
        _subset(transfer_source, target, database=f"sqlite:///{transfer_source}/gen3.sqlite3")
    assert not target.exists()


@pytest.mark.ordering("N6")
def test_another_system_brings_files(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    target, manifest = tmp_path / "target", tmp_path / "files.jsonl"
    _subset(source, target, files="manifest", manifest_path=manifest)
    assert _records(target) == []
    assert _files(target) == {}
    lines = [json.loads(line) for line in manifest.read_text().splitlines()][1:]
    assert len(lines) == len({line["path"] for line in lines}) == len({r[1] for r in _records(source)})
    for half in (lines[::2], lines[1::2]):
        for line in half:
            pathlib.Path(line["to"]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(line["from"], line["to"])
        if half[0] is lines[0]:
            done = testing.CliRunner().invoke(main.main, ["confirm", str(target), str(manifest)])
            assert done.exit_code == 1
            rest = [json.loads(line) for line in (tmp_path / "files.rest.jsonl").read_text().splitlines()]
            assert rest[1:] == lines[1::2]
            assert {path for (_, path, *_) in _records(target)} == {line["path"] for line in half}
    report = aggregator.confirm(target, tmp_path / "files.rest.jsonl")
    assert (report.n_waiting, report.n_files) == (0, len(lines[1::2]))
    assert _records(target) == _records(source)
    difference.assert_same(transfer_case.content(source), transfer_case.content(target), "Repositories")
    again = aggregator.confirm(target, manifest)
    assert (again.n_recorded, again.n_waiting) == (0, 0)


def test_a_manifest_lists_what_is_still_missing(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    target, manifest = tmp_path / "target", tmp_path / "files.jsonl.zst"
    for _ in range(2):
        _subset(source, target, files="manifest", manifest_path=manifest)
        with pytest.raises(aggregator.AggregatorError, match="files are not there"):
            aggregator.confirm(target, manifest)
        assert (tmp_path / "files.rest.jsonl").exists()
        manifest.unlink()


def test_a_table_lists_files_for_simple_movers(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    target, manifest = tmp_path / "target", tmp_path / "files.csv"
    # What has a comma, quotes, or the end of a line in its name stays one file.
    with contextlib.closing(sqlite3.connect(source / "gen3.sqlite3")) as connection, connection:
        query = "UPDATE file_datastore_records SET path = ? WHERE path = ?"
        path = next(path for (_, path, *_) in _records(source) if "clean_image" in path)
        odd = 'u/a, "b"\nc.json'
        (source / path).rename(source / odd)
        connection.execute(query, [odd, path])
    _subset(source, target, files="manifest", manifest_path=manifest, manifest_format="csv")
    rows = list(csv.reader(io.StringIO(manifest.read_text())))
    assert rows[0][0].startswith('# {"manifest":1')
    assert rows[1][:3] == ["from", "to", "size"]
    assert odd in {row[0].removeprefix(f"{source}/") for row in rows}
    for row in rows[2:-1]:
        pathlib.Path(row[1]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(row[0], row[1])
    with pytest.raises(aggregator.AggregatorError, match=r"1 of .* files are not there"):
        aggregator.confirm(target, manifest)
    rest = list(csv.reader(io.StringIO((tmp_path / "files.rest.csv").read_text())))
    assert rest[1:] == [rows[1], rows[-1]]
    pathlib.Path(rows[-1][1]).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(rows[-1][0], rows[-1][1])
    assert aggregator.confirm(target, tmp_path / "files.rest.csv").n_waiting == 0
    assert _records(target) == _records(source)


@pytest.mark.parametrize("form", ["jsonl", "jsonl.zst", "csv"])
def test_a_manifest_that_ends_early_is_never_complete(
    transfer_source: pathlib.Path, tmp_path: pathlib.Path, form: str
) -> None:
    target, manifest = tmp_path / "target", tmp_path / f"files.{form}"
    kind = form.partition(".")[0]
    _subset(transfer_source, target, files="manifest", manifest_path=manifest, manifest_format=kind)
    for name in ("in", "u", "calib"):
        shutil.copytree(transfer_source / name, target / name)
    content = manifest.read_bytes()
    if form.endswith("zst"):
        content = zstandard.ZstdDecompressor().stream_reader(content, read_across_frames=True).read()
    shorter = b"".join(content.splitlines(keepends=True)[:-1])
    if form.endswith("zst"):
        shorter = zstandard.ZstdCompressor().compress(shorter)
    whole = manifest.read_bytes()
    manifest.write_bytes(shorter)
    with pytest.raises(aggregator.FormatError, match="was cut off"):
        aggregator.confirm(target, manifest)
    manifest.write_bytes(whole)
    assert aggregator.confirm(target, manifest).n_waiting == 0


def test_what_is_recorded_elsewhere_is_not_there(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    target, manifest = tmp_path / "target", tmp_path / "files.jsonl"
    chosen = aggregator.Selection(dataset_types=("raw",))
    config = aggregator.TransferConfig(files="manifest", manifest_path=manifest)
    aggregator.subset(source, target, chosen, config)
    aggregator.subset(source, target, chosen, aggregator.TransferConfig(files="copy"))
    database = databases.Sqlite(target / "gen3.sqlite3")
    paths = sorted(path for (_, path, *_) in _records(target))
    database.execute(
        f"UPDATE file_datastore_records SET path = 'in/else' WHERE path = '{paths[0]}'",
        f"UPDATE file_datastore_records SET component = 'part' WHERE path = '{paths[1]}'",
    )
    before = _records(target)
    with pytest.raises(aggregator.AggregatorError, match=r"2 of .* files") as raised:
        aggregator.confirm(target, manifest)
    assert isinstance(raised.value.summary, aggregator.ConfirmReport)
    problems = sorted(raised.value.summary.problems)
    assert f"is recorded at in/else, and not at {paths[0]}" in problems[0]
    assert f"is recorded in parts, at {paths[1]}" in problems[1]
    assert _records(target) == before


def test_no_manifest_is_the_users_mistake(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for name in ("no", "source/butler.yaml", "source"):
        done = testing.CliRunner().invoke(main.main, ["confirm", str(source), str(tmp_path / name)])
        assert done.exit_code == 2, done.output


@pytest.mark.ordering("N7")
@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "file:///etc/passwd"])
def test_a_manifest_can_not_lead_out(source: pathlib.Path, tmp_path: pathlib.Path, path: str) -> None:
    target, manifest = tmp_path / "target", tmp_path / "files.jsonl"
    _subset(source, target, files="manifest", manifest_path=manifest)
    head, line, *_ = manifest.read_text().splitlines()
    head = json.dumps(json.loads(head) | {"files": 1})
    manifest.write_text("\n".join([head, json.dumps({**json.loads(line), "path": path}), ""]))
    with pytest.raises(aggregator.RefusedError, match="not be inside"):
        aggregator.confirm(target, manifest)
    manifest.write_text(f"{head}\n{line[:-9]}")
    with pytest.raises(aggregator.FormatError, match="cut off"):
        aggregator.confirm(target, manifest)


@pytest.mark.ordering("N7")
def test_a_link_in_the_destination_can_not_lead_out(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    target, elsewhere = tmp_path / "target", tmp_path / "elsewhere"
    elsewhere.mkdir()
    aggregator.create_repository(target, dimension_config=transfer_case.dimensions(source))
    (target / "in").symlink_to(elsewhere)
    with pytest.raises(aggregator.AggregatorError, match="leads out of the datastore"):
        _subset(source, target)
    assert not list(elsewhere.iterdir())


def test_a_job_gets_its_inputs_and_a_place_for_outputs(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    target, graph = tmp_path / "target", str(source / "predicted.qg")
    command = ["subset", str(source), str(target), "--graph", graph, "--inputs"]
    done = testing.CliRunner().invoke(main.main, command)
    assert done.exit_code == 0, done.output
    database = databases.Sqlite(target / "gen3.sqlite3")
    kinds = {kind for (kind,) in database.query("SELECT name FROM dataset_type")}
    n_inputs = database.count("dataset")
    assert kinds == {"raw", "refcat"}
    assert 0 < n_inputs == len(_files(target))
    # Nothing was executed yet: of outputs there are just run and types.
    source_database = databases.Sqlite(source / "gen3.sqlite3")
    source_database.execute(
        *(f"DELETE FROM {name}" for name in source_database.tables() if name.startswith("dataset_tags")),
    )
    other = tmp_path / "other"
    command = ["subset", str(source), str(other), "--graph", graph, "--outputs", "--files", "none"]
    done = testing.CliRunner().invoke(main.main, command)
    assert done.exit_code == 0, done.output
    database = databases.Sqlite(other / "gen3.sqlite3")
    assert ("clean_image",) in database.query("SELECT name FROM dataset_type")
    assert database.query("SELECT name, type FROM collection") == [(transfer_case.RUN, 1)]


def _ingested(source: pathlib.Path) -> Any:
    """Ingest the graph of the sample, and return it."""
    graph = source.parent / "provenance.qg"
    if not graph.exists():
        samples.unpack(source.parent / "sample")
        graph = source.parent / "sample" / "provenance.qg"
    aggregator.ingest_graph(source, graph, transfer="copy")
    return aggregator.Provenance(source, transfer_case.RUN)


def test_a_graph_comes_with_what_it_backs(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    import lsst.daf.butler as daf
    import lsst.pipe.base.tests.mocks  # noqa: F401  (registers storage classes)

    _ingested(source).close()
    target = tmp_path / "target"
    chosen = aggregator.Selection(dataset_types=("measure_log",))
    report = aggregator.subset(source, target, chosen, aggregator.TransferConfig(files="copy"))
    assert report.done.files_brought == 1, "all are in one graph"
    with (
        daf.Butler.from_config(str(source), collections=transfer_case.RUN) as before,
        daf.Butler.from_config(str(target), collections=transfer_case.RUN) as after,
    ):
        refs = after.query_all_datasets(transfer_case.RUN, find_first=False)
        assert {ref.datasetType.name for ref in refs} == {"measure_log", "run_provenance"}
        for ref in refs:
            if ref.datasetType.name != "run_provenance":
                assert after.get(ref) == before.get(ref)
    again = aggregator.subset(source, target, chosen, aggregator.TransferConfig(files="copy"))
    assert (again.done.datasets_added, again.done.files_brought) == (0, 0)
    more = aggregator.Selection(collections=(transfer_case.RUN,))
    added = aggregator.subset(source, target, more, aggregator.TransferConfig(files="copy"))
    assert added.done.datasets_added > 0, "the run takes more of the same, though it has its graph"


def test_lineage_comes_along(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with _ingested(source) as provenance:
        start = next(node.dataset_id for node in provenance.datasets("clean_image") if node.produced)
        steps = {"up": list(provenance.upstream(start)), "down": list(provenance.downstream(start))}
    image = start.replace("-", "")
    known = "SELECT id FROM dataset"
    there = {row[0] for row in databases.Sqlite(source / "gen3.sqlite3").query(known)}
    chosen = aggregator.Selection(ids=(image,))
    for direction in ("up", "down"):
        nodes = [step.node for step in steps[direction]]
        related = {n.dataset_id.replace("-", "") for n in nodes if hasattr(n, "dataset_id")} & there
        assert related
        target = tmp_path / direction
        aggregator.subset(source, target, chosen, aggregator.TransferConfig(lineage=direction))
        database = databases.Sqlite(target / "gen3.sqlite3")
        graphs = "SELECT d.id FROM dataset d JOIN dataset_type t ON t.id = d.dataset_type_id WHERE t.name = "
        graph = {row[0] for row in database.query(f"{graphs}'run_provenance'")}
        assert {row[0] for row in database.query(known)} - graph == {image, *related} - graph
        assert database.count("dataset_location") == database.count("dataset")
    target = tmp_path / "full"
    aggregator.subset(source, target, chosen, FULL)
    database = databases.Sqlite(target / "gen3.sqlite3")
    located = {row[0] for row in database.query("SELECT dataset_id FROM dataset_location")}
    assert image in located
    up = {s.node.dataset_id.replace("-", "") for s in steps["up"] if hasattr(s.node, "dataset_id")} & there
    assert up <= {row[0] for row in database.query(known)}
    assert not located & up, "of what it came from there are rows, and no files"


def test_files_that_are_in_place_are_looked_for(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    target = tmp_path / "target"
    aggregator.create_repository(target, dimension_config=transfer_case.dimensions(source))
    with pytest.raises(aggregator.RefusedError, match=r"F1: .*: is not there"):
        _subset(source, target, files="in-place")
    assert databases.Sqlite(target / "gen3.sqlite3").count("dataset_type") == 0
    shutil.copytree(source / "in", target / "in")
    chosen = aggregator.Selection(collections=(transfer_case.INPUTS,))
    report = aggregator.subset(source, target, chosen, aggregator.TransferConfig(files="in-place"))
    assert report.done.datasets_added == report.selected > 20
    assert len(_records(target)) == report.selected


def test_no_record_leads_to_a_file_that_is_gone(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (source / next(path for (_, path, *_) in _records(source) if "raw" in path)).unlink()
    with pytest.raises(aggregator.RefusedError, match="F1"):
        _subset(source, tmp_path / "target", files="direct")
    assert not (tmp_path / "target").exists()


def test_the_destination_may_see_files_elsewhere(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """The source is mounted at another place where the destination is used."""
    target, seen, outside = tmp_path / "target", tmp_path / "seen", tmp_path / "outside"
    database = f"sqlite:///{target}/gen3.sqlite3"
    outside.mkdir()
    with contextlib.closing(sqlite3.connect(source / "gen3.sqlite3")) as connection, connection:
        raws = sorted(path for (_, path, *_) in _records(source) if "raw" in path)
        (source / raws[0]).rename(outside / "a b")
        query = "UPDATE file_datastore_records SET path = ? WHERE path = ?"
        connection.execute(query, [f"file://{tmp_path}/outside/a%20b", raws[0]])
    aggregator.create_repository(
        target, dimension_config=transfer_case.dimensions(source), database_url=database
    )
    text = (target / "butler.yaml").read_text()
    (target / "butler.yaml").write_text(text.replace("root: <butlerRoot>", f"root: {seen}"))
    chosen = aggregator.Selection(collections=(transfer_case.INPUTS,))
    rules = (f"{source}={seen}", f"{outside}={tmp_path}/else where")
    for wrong in (rules[:1], (f"{source}={tmp_path}/typo", rules[1]), ("x=y",), ("/x",)):
        config = aggregator.TransferConfig(files="in-place", root_map=wrong)
        with pytest.raises(aggregator.RefusedError):
            aggregator.subset(source, target, chosen, config)
    config = aggregator.TransferConfig(files="in-place", root_map=rules)
    report = aggregator.subset(source, target, chosen, config)
    records = _records(target)
    assert len(records) == report.selected > 20
    assert not seen.exists(), "nothing is looked for where only others see it"
    known = {row[0]: row for row in _records(source)}
    for row in records:
        path = known[row[0]][1]
        there = f"file://{tmp_path}/else%20where/a%20b" if path.startswith("file:") else path
        assert row == (*known[row[0]][:1], there, *known[row[0]][2:])
    (source / sorted(raws)[1]).unlink()
    again = tmp_path / "again"
    aggregator.create_repository(again, dimension_config=transfer_case.dimensions(source))
    text = (again / "butler.yaml").read_text()
    (again / "butler.yaml").write_text(text.replace("root: <butlerRoot>", f"root: {seen}"))
    with pytest.raises(aggregator.RefusedError, match="F1"):
        aggregator.subset(source, again, chosen, config)


def test_files_go_to_an_object_store_and_back(
    source: pathlib.Path, tmp_path: pathlib.Path, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    bucket = s3.new_bucket()
    options = {"database": f"sqlite:///{tmp_path}/remote.sqlite3", "files": "auto"}
    away, back = f"s3://{bucket}/some repo", tmp_path / "back"
    there = aggregator.subset(source, away, transfer_case.ALL, dataclasses.replace(FULL, **options))
    assert there.done.files_brought == len({path for (_, path, *_) in _records(source)})
    again = aggregator.subset(source, away, transfer_case.ALL, dataclasses.replace(FULL, **options))
    assert (again.done.files_brought, again.done.datasets_added) == (0, 0)
    aggregator.subset(away, back, transfer_case.ALL, FULL)
    assert _records(back) == _records(source)
    for _, path, *_ in _records(source):
        assert (back / path).read_bytes() == (source / path).read_bytes()


def test_cancelled_at_any_moment_it_goes_on(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    target, stages = tmp_path / "target", ["checking", "creating", "transferring"]
    for stage in stages:
        cancellation = aggregator.Cancellation()

        def cancel(update: aggregator.ProgressUpdate, at: str = stage, by: Any = cancellation) -> None:
            if update.stage == at:
                by.cancel()

        with pytest.raises(aggregator.Interrupted) as raised:
            aggregator.subset(
                source, target, transfer_case.ALL, FULL, on_progress=cancel, cancellation=cancellation
            )
        assert isinstance(raised.value.summary, aggregator.TransferReport)
        if stage == "creating":
            shutil.rmtree(target, ignore_errors=True)
    _subset(source, target)
    difference.assert_same(transfer_case.content(source), transfer_case.content(target), "Repositories")


@pytest.mark.parametrize("option", ["--manifest", "--conflicts-file", "--summary-json"])
def test_lists_replace_nothing_of_a_repository(
    source: pathlib.Path, tmp_path: pathlib.Path, option: str
) -> None:
    target = tmp_path / "target"
    aggregator.create_repository(target, dimension_config=transfer_case.dimensions(source))
    command = ["subset", str(source), str(target), "-c", transfer_case.TOP]
    command += ["--files", "manifest"] if option == "--manifest" else []
    for root in (source, target):
        before = samples.tree(root)
        for name in ("butler.yaml", "gen3.sqlite3"):
            done = testing.CliRunner().invoke(main.main, [*command, option, str(root / name)])
            assert done.exit_code == 2, done.output
        assert samples.tree(root) == before


def test_a_second_datastore_of_the_same_database(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    second = tmp_path / "second"
    second.mkdir()
    text = (source / "butler.yaml").read_text()
    assert "root: <butlerRoot>" in text
    text = text.replace("root: <butlerRoot>", f"root: {second}\n  name: second")
    (second / "butler.yaml").write_text(text.replace("<butlerRoot>/gen3", f"{source}/gen3"))
    database = databases.Sqlite(source / "gen3.sqlite3")
    before = database.content()
    with pytest.raises(aggregator.RefusedError, match="one database"):
        _subset(source, second, files="move")
    with pytest.raises(aggregator.AggregatorError, match="can't be recorded"):
        _subset(source, second, files="direct")
    assert database.content() == before
    report = _subset(source, second, files="copy")
    assert report.done.datasets_repaired == report.done.datasets_present == report.selected
    after = database.content()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"dataset_location"}, "just locations"
    for _, path, *_ in _records(source):
        assert (second / path).read_bytes() == (source / path).read_bytes()
