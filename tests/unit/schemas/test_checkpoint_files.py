"""Files of a checkpoint that are damaged, of another version, or of something else."""

from __future__ import annotations

import io
import pathlib
from typing import Any

import msgspec
import numpy as np
import pytest
from aggregator.schemas.checkpoints import checkpoint, dataset_part, digest, ledger, manifest
from aggregator.storage import errors

IDENTITY = digest.Identity("graph", "settings", "place")


def a_manifest(**changes: Any) -> manifest.Manifest:
    values = {
        "version": manifest.VERSION, "predicted_graph": "/g.qg", "output_run": "u/run", "repository": "/r",
        "identity": IDENTITY, "records": "r", "edges": "e", "shard_size": 50, "n_quanta": 101, "begun": 7,
    }  # fmt: skip
    return msgspec.convert({**msgspec.to_builtins(values), **changes}, manifest.Manifest)


@pytest.mark.parametrize(("n_quanta", "n_shards"), [(0, 1), (1, 2), (50, 2), (51, 3), (101, 4)])
def test_a_manifest_tells_the_number_of_shards(n_quanta: int, n_shards: int) -> None:
    assert a_manifest(n_quanta=n_quanta).n_shards == n_shards


def test_a_manifest_is_read_as_it_was_written(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "manifest.json")
    manifest.write(path, a_manifest())
    assert manifest.read(path) == a_manifest()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            msgspec.json.encode(a_manifest(version=99)),
            f"layout version 99, this program knows {manifest.VERSION}",
        ),
        (b"{", "damaged"),
        (b'{"version":"x"}', "damaged"),
        (b'{"version":%d}' % manifest.VERSION, "damaged"),
        (b'{"version":%d,"predicted_graph":"\xff"}' % manifest.VERSION, "damaged"),
    ],
)
def test_another_manifest_is_told(tmp_path: pathlib.Path, content: bytes, problem: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(errors.FormatError, match=problem) as caught:
        manifest.read(str(path))
    assert str(path) in str(caught.value)


def a_line(**changes: Any) -> ledger.Line:
    values = {"repository": "/db", "run": "u/run", "shard": 1, "digest": "d", "offered": "o", "n_datasets": 5}
    return ledger.Line(**{**values, **changes})


def test_the_last_line_of_a_shard_counts_and_damaged_ones_do_not(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "ledger"
    assert ledger.read_all(str(path)) == []
    ledger.append(str(path), [a_line(), a_line(shard=2), a_line(run="u/other")])
    # Cut off, and then gone on with.
    path.write_bytes(path.read_bytes()[:-20])
    ledger.append(str(path), [a_line(digest="newer")])
    with path.open("ab") as stream:
        stream.write(b'{"repository":"\xff"}\n[]\n')
    ledger.append(str(path), [])
    assert ledger.read(str(path), "/db", "u/run") == {1: a_line(digest="newer"), 2: a_line(shard=2)}
    assert ledger.read(str(path), "/db", "u/other") == {}
    assert ledger.read(str(path), "/another", "u/run") == {}


@pytest.mark.parametrize(
    ("database", "namespace", "expected"),
    [
        ("/repo/gen3.sqlite3", None, "/repo/gen3.sqlite3"),
        ("postgresql://me:s3cr@t@host/db", "ns", "postgresql://me@host/db#ns"),
        (
            "postgresql://me@host/db?sslpassword=s3cr&port=5",
            None,
            "postgresql://me@host/db?sslpassword&port=5",
        ),
    ],
)
def test_no_password_is_in_the_name_of_a_database(
    database: str, namespace: str | None, expected: str
) -> None:
    assert ledger.place(database, namespace) == expected


def test_only_names_of_a_checkpoint_are_used(tmp_path: pathlib.Path) -> None:
    for name in ("shard-000012.digest", "inputs-00003.part", "ledger.old", "manifest.json"):
        assert checkpoint.knows(name)
    for name in ("shard-12.digest", "notes", "ledger.older", "lock"):
        assert not checkpoint.knows(name)
    with pytest.raises(ValueError, match="notes is no name of a checkpoint's file"):
        checkpoint.Layout(str(tmp_path))._path("notes")


def a_part(path: pathlib.Path) -> Any:
    table = np.zeros(3, dtype=dataset_part.ROW)
    table["id"] = [bytes([n]) * 16 for n in (1, 2, 3)]
    table["size"] = [3, 4, 5]
    key = bytes(range(16))
    dataset_part.write(str(path), key, table, [b"abc", b"defg", b"hijkl"], n_edges=9, n_shared=2)
    return table


def test_a_part_is_read_as_it_was_written(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "shard-000001.datasets"
    table = a_part(path)
    with dataset_part.Part(str(path)) as part:
        assert (part.n_rows, part.n_edges, part.n_shared, bytes(part.key)) == (3, 9, 2, bytes(range(16)))
        assert part.rows(1, 3).tolist() == table[1:].tolist()
        out = io.BytesIO()
        part.copy_blocks(out)
        assert out.getvalue() == b"abcdefghijkl"
        assert part.is_sound()


def test_a_damaged_part_is_told(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "shard-000001.datasets"
    a_part(path)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"x")
    with dataset_part.Part(str(path)) as part:
        assert not part.is_sound()
    path.write_bytes(data[:-30])
    with (
        dataset_part.Part(str(path)) as part,
        pytest.raises(errors.FormatError, match="is truncated; run again"),
    ):
        part.rows(0, 3)
    path.write_bytes(data[:20])
    with pytest.raises(errors.FormatError, match="is truncated"):
        dataset_part.Part(str(path))
    path.unlink()
    with pytest.raises(errors.FormatError, match="can't open it"):
        dataset_part.Part(str(path))
