"""Exports of the middleware: written, read back in parts, and what is no export (transfer.md section 2.1)."""

from __future__ import annotations

import io
import pathlib
import uuid
from typing import Any

import pytest
from aggregator.schemas import bundle, export_reader, repository_export

import aggregator

HEAD = repository_export.Head(8, "daf_butler")
ID = uuid.UUID(int=5)
SPAN = repository_export.Timespan(repository_export.time_of_text("2026-03-01 12:00:00.000000001"), None)
ENTRIES: list[dict[str, Any]] = [
    {"type": "dimension", "element": "skymap", "records": [{"name": "on", "hash": b"\0\1", "x": "1.0"}]},
    {
        "type": "dimension",
        "element": "tract",
        "records": [{"id": 1, "region": repository_export.Region(b"p12")}],
    },
    {"type": "collection", "name": "null", "doc": "two\nlines: é", "host": None},
    {"type": "associations", "validity_ranges": [{"timespan": SPAN, "dataset_ids": [ID]}]},
]
BEGIN = "description: Butler Data Repository Export\nversion: 1.0.2\nuniverse_version: 8\n"


def written(*entries: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    writer = repository_export.Writer(stream, HEAD)
    for entry in entries:
        writer.add(entry)
    writer.finish()
    return stream.getvalue()


def read(path: pathlib.Path, content: bytes | str) -> list[dict[str, Any]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(export_reader.Export(str(path)).entries())


def test_what_is_written_is_read(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "export.yaml"
    assert read(path, written(*ENTRIES)) == ENTRIES
    assert read(path, written()) == []
    assert export_reader.Export(str(path)).head == HEAD
    assert repository_export.is_export(str(path))
    assert not repository_export.is_export(str(tmp_path))


def test_many_records_come_in_parts(tmp_path: pathlib.Path) -> None:
    records = [{"id": number} for number in range(bundle.DATASETS_AT_ONCE + 1)]
    parts = read(
        tmp_path / "export.yaml", written({"type": "dimension", "element": "tract", "records": records})
    )
    assert [len(part["records"]) for part in parts] == [bundle.DATASETS_AT_ONCE, 1]
    assert {part["element"] for part in parts} == {"tract"}
    assert [record for part in parts for record in part["records"]] == records


def test_anchors_are_followed(tmp_path: pathlib.Path) -> None:
    text = BEGIN + "data:\n- {a: &a [x, 1]}\n- {a: *a}\n"
    assert read(tmp_path / "export.yaml", text) == [{"a": ["x", 1]}] * 2


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "no mapping"),
        ("- 1\n", "no mapping"),
        ("a: 1\n", "has no version"),
        (BEGIN.replace("1.0.2", "1.1.0") + "data: []\n", "version 1.1.0"),
        (BEGIN.replace("1.0.2", "2.0.0") + "data: []\n", "version 2.0.0"),
        (BEGIN.replace("n: 8", "n: x") + "data: []\n", "does not tell its dimension universe"),
        (BEGIN + "data:\n- 1\n", "entry is no mapping"),
        (BEGIN + "data:\n- {type: [\n", "cut off"),
        (BEGIN + "data:\n- *b\n", "no mapping|damaged"),
        (BEGIN + "data:\n- {a: !!python/object:os.system x}\n", "could not determine a constructor"),
        (BEGIN + "data:\n- {a: !uuid x}\n", "badly formed"),
        (BEGIN + "data:\n- {a: !<lsst.sphgeom.Circle> {b: 1}}\n", "nobody knows"),
        (BEGIN + "data:\n- {a: !butler_time/tai/iso '2026-13-01 00:00:00'}\n", "month"),
        (BEGIN + "data:\n- a: " + "[" * 5000 + "]" * 5000 + "\n", "recursion|damaged"),
    ],
)  # fmt: skip
def test_what_is_none_is_told(tmp_path: pathlib.Path, content: str, problem: str) -> None:
    with pytest.raises(aggregator.FormatError, match=problem):
        read(tmp_path / "export.yaml", content)


def test_what_is_cut_off_is_told_or_shorter(tmp_path: pathlib.Path) -> None:
    content = written(*ENTRIES)
    path = tmp_path / "export.yaml"
    for size in range(len(content)):
        try:
            found = read(path, content[:size])
        except aggregator.FormatError:
            continue
        assert len(found) <= len(ENTRIES)
