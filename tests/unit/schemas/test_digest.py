import pathlib
from typing import Any

import numpy as np
import pytest
from aggregator.schemas.checkpoints import digest
from aggregator.storage import errors, spools
from hypothesis import given
from hypothesis import strategies as st

IDENTITY = digest.Identity("graph", "settings", "")
SHARD = 7


def columns(n: int = 3) -> dict[str, Any]:
    """Return columns of a few rows; every value differs from its neighbours."""
    result: dict[str, Any] = {}
    for i, (name, kind) in enumerate(digest.COLUMNS.items()):
        if kind.kind == "S":
            result[name] = np.array([bytes([i + 1, j]) * 8 for j in range(n)], dtype=kind)
        else:
            result[name] = np.arange(i, i + n).astype(kind)
    return result


LISTS: dict[str, list[Any]] = {
    "coordinates": [b'["Cam",1]', b"[]"],
    "runs": ["u/run", "ü"],
    "file.paths": ["a/b.json"] * 2,
    "file.kinds": [[0, "formatter", "class", ""]],
    "looked.paths": ["0:a/b.json", "1:c"],
    "looked.tags": [bytes(range(32)), b""],
    "problems": [["id", "path", "reason"]],
}
BLOCKS = {"blocks.quanta": b"quanta" * 9, "blocks.logs": b"", "blocks.metadata": bytes(range(256))}


def spooled(content: dict[str, bytes] = BLOCKS) -> dict[str, spools.Spool]:
    result = {name: spools.Spool("/no/file/is/needed") for name in content}
    for name, data in content.items():
        result[name].append(data)
    return result


def frozen(values: list[Any]) -> list[Any]:
    return [tuple(v) if isinstance(v, list) else v for v in values]


def write(path: pathlib.Path, identity: digest.Identity = IDENTITY, **changes: Any) -> bytes:
    head, sections = digest.encode(identity, SHARD, {**columns(), **changes}, LISTS, spooled())
    digest.write(str(path), head, sections)
    return path.read_bytes()


def verify(path: pathlib.Path) -> None:
    with digest.Digest(str(path), IDENTITY, SHARD) as opened:
        opened.verify()


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "shard-000007.digest"


@pytest.mark.parametrize("n", [0, 1, 5])
def test_everything_is_read_as_it_was_written(path: pathlib.Path, n: int) -> None:
    given_columns = columns(n)
    head, sections = digest.encode(IDENTITY, SHARD, given_columns, LISTS, spooled())
    checksum = digest.write(str(path), head, sections)
    with digest.Digest(str(path), IDENTITY, SHARD) as opened:
        opened.verify()
        assert (opened.shard, opened.checksum) == (7, checksum)
        for name, values in given_columns.items():
            found = opened.column(name)
            assert found.dtype == digest.COLUMNS[name]
            assert found.tolist() == values.tolist()
            assert opened.part(name, 0, n).tolist() == values.tolist()
            assert opened.part(name, n // 2, n).tolist() == values[n // 2 :].tolist()
        assert {name: opened.values(name) for name in LISTS} == {name: frozen(v) for name, v in LISTS.items()}
        assert {name: b"".join(opened.blocks(name)) for name in BLOCKS} == BLOCKS
    assert list(path.parent.iterdir()) == [path]


@given(st.lists(st.one_of(st.binary(), st.text(), st.integers(-(2**63), 2**64 - 1)), max_size=5))
def test_lists_hold_any_values(tmp_path_factory: pytest.TempPathFactory, values: list[Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "any.digest"
    digest.write(
        str(path), *digest.encode(IDENTITY, SHARD, columns(), {**LISTS, "coordinates": values}, spooled())
    )
    with digest.Digest(str(path), IDENTITY, SHARD) as opened:
        assert opened.values("coordinates") == values


def test_the_same_content_has_the_same_checksum(path: pathlib.Path) -> None:
    first = write(path)
    assert write(path) == first
    with digest.Digest(str(path), IDENTITY, SHARD) as opened:
        before = opened.checksum
    for name, values in columns().items():
        changed = values.copy()
        changed[1] = values[0]
        write(path, **{name: changed})
        with digest.Digest(str(path), IDENTITY, SHARD) as opened:
            assert opened.checksum != before, name


def test_every_damaged_byte_is_noticed(path: pathlib.Path) -> None:
    data = write(path)
    verify(path)
    with path.open("r+b", buffering=0) as stream:
        for place, byte in enumerate(data):
            for flip in (1, 0x80):
                stream.seek(place)
                stream.write(bytes([byte ^ flip]))
                with pytest.raises(errors.FormatError) as caught:
                    verify(path)
                assert caught.value.path == str(path)
            stream.seek(place)
            stream.write(bytes([byte]))
    verify(path)


def test_a_damaged_section_is_noticed_where_it_is_read(path: pathlib.Path) -> None:
    data = write(path)
    place = data.rindex(BLOCKS["blocks.quanta"])
    path.write_bytes(data[:place] + b"Q" + data[place + 1 :])
    with digest.Digest(str(path), IDENTITY, SHARD) as opened:
        assert opened.column("quantum.id").tolist() == columns()["quantum.id"].tolist()
        with pytest.raises(errors.FormatError, match="checksum differs") as caught:
            list(opened.blocks("blocks.quanta"))
        assert caught.value.member == "blocks.quanta"


def test_every_truncation_is_noticed(path: pathlib.Path) -> None:
    data = write(path)
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(errors.FormatError):
            verify(path)


def test_what_is_no_digest_is_refused(path: pathlib.Path) -> None:
    with pytest.raises(errors.FormatError, match="No such file"):
        verify(path)
    for data in (b"", b"QGDIGEST", b"PK\3\4" * 100):
        path.write_bytes(data)
        with pytest.raises(errors.FormatError, match="not a digest"):
            verify(path)


@pytest.mark.parametrize("field", ["graph", "settings", "dictionary"])
def test_a_digest_of_something_else_is_refused(path: pathlib.Path, field: str) -> None:
    values = {"graph": "graph", "settings": "settings", "dictionary": "", field: "other"}
    write(path, digest.Identity(**values))
    with pytest.raises(errors.FormatError, match="another graph or to other settings"):
        verify(path)


@pytest.mark.ordering("D1")
def test_the_digest_of_another_shard_is_refused(path: pathlib.Path) -> None:
    digest.write(str(path), *digest.encode(IDENTITY, SHARD + 1, columns(), LISTS, spooled()))
    with pytest.raises(errors.FormatError, match="is of shard 8, not of 7"):
        verify(path)


@pytest.mark.parametrize("version", [digest.FORMAT_VERSION - 1, digest.FORMAT_VERSION + 1, None])
def test_another_version_is_refused(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, version: int | None
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(digest, "FORMAT_VERSION", version)
        write(path)
    with pytest.raises(errors.FormatError, match=f"unknown version {version}"):
        verify(path)


def test_a_digest_appears_complete_or_not_at_all(path: pathlib.Path) -> None:
    old = write(path)
    head, _ = digest.encode(IDENTITY, SHARD, columns(), LISTS, spooled())
    with pytest.raises(TypeError):
        digest.write(str(path), head, [b"", "no bytes"])  # type: ignore[list-item]
    assert path.read_bytes() == old
    assert list(path.parent.iterdir()) == [path]


def test_a_digest_of_another_place_is_only_taken_if_it_may_be(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "shard-000007.digest"
    made = digest.Identity("graph", "settings", "", "place")
    write(path, made)
    moved = digest.Identity("graph", "settings", "", "another place")
    with pytest.raises(errors.FormatError, match="another repository, or in another place"):
        digest.Digest(str(path), moved, SHARD)
    digest.Digest(str(path), moved, SHARD, elsewhere=True).__exit__()
    for other in (digest.Identity("other", "settings", ""), digest.Identity("graph", "other", "")):
        with pytest.raises(errors.FormatError, match="another graph or to other settings"):
            digest.Digest(str(path), other, SHARD, elsewhere=True)
    with pytest.raises(errors.FormatError, match="is of shard 7, not of 8"):
        digest.Digest(str(path), made, 8)
