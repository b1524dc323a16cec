"""Packs come back as they were made; whatever else is in such a file is noticed, and takes no memory."""

from __future__ import annotations

import pathlib
import random
import struct
import zipfile
from collections.abc import Callable

import msgspec
import pytest
import zstandard
from aggregator.schemas import pack_reader, pack_writer, packs
from aggregator.storage import errors

ID = "01a200dc-a8c6-77a6-8839-7ca00bcb3374"

CONTENT = b"content of a file" * 100

BOMB = bytes.fromhex("28b52ffd e0 0000002000000000 010000")
"""Says that it holds half a gibibyte."""

ORIGIN = packs.Origin("0" * 32, "/graph.qg", "u/run", "/repo/butler.yaml")


def manifest() -> packs.Manifest:
    return packs.Manifest(
        kind="results", origin=ORIGIN, made_by="a test", created="2026", n_quanta=1, payload="files"
    )


def write(path: pathlib.Path) -> pathlib.Path:
    """Write a pack with one file, and three rows in two batches."""
    with pack_writer.Writer(str(path), lambda: None) as out:
        member = out.add_file(f"{ID}.json", [CONTENT[:10], CONTENT[10:]])
        file = packs.OutputFile(f"{ID}.json", ID, None, "a.Formatter", member.size, member.checksum)
        rows = [packs.PackedQuantum(ID, 1, (file,) if not n else ()) for n in range(3)]
        out.add_table(packs.QUANTA, rows, rows_at_once=2)
        out.add(packs.GRAPH, [b"graph"])
        out.finish(manifest())
    return path


@pytest.fixture
def made(tmp_path: pathlib.Path) -> pathlib.Path:
    return write(tmp_path / "a.pack")


def read(path: pathlib.Path) -> bytes:
    """Read all of a pack; return the content of its file."""
    content = b""
    with pack_reader.Pack(str(path)) as pack:
        assert b"".join(pack.graph()) == b"graph"
        for row in pack.table(packs.QUANTA, packs.PackedQuantum):
            for file in row.files:
                content += b"".join(pack.file(file.name, file.size, file.checksum))
    return content


def test_a_pack_comes_back(made: pathlib.Path) -> None:
    assert read(made) == CONTENT
    with pack_reader.Pack(str(made)) as pack:
        assert pack.manifest.origin == ORIGIN
        rows = list(pack.table(packs.QUANTA, packs.PackedQuantum))
        assert [len(row.files) for row in rows] == [1, 0, 0]
        assert pack.has_file(f"{ID}.json")
    assert pack_reader.is_begin(made.read_bytes()[:4096])


def test_it_appears_whole_or_not_at_all(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.pack"
    path.write_bytes(b"what was there")

    def refuse() -> None:
        raise errors.AggregatorError("something else has come there")

    def write_and(look: Callable[[], None], end: Callable[[pack_writer.Writer], None]) -> None:
        with pack_writer.Writer(str(path), look) as out:
            out.add_file(f"{ID}.json", [CONTENT])
            end(out)

    with pytest.raises(errors.AggregatorError, match="come there"):
        write_and(refuse, lambda out: out.finish(manifest()))
    with pytest.raises(ZeroDivisionError):
        write_and(lambda: None, lambda out: out.add_file(f"{ID}.txt", [bytes(1 // 0)]))
    assert [each.name for each in tmp_path.iterdir()] == ["a.pack"]
    assert path.read_bytes() == b"what was there"


@pytest.mark.ordering("K2")
def test_what_is_cut_off_is_noticed(made: pathlib.Path, tmp_path: pathlib.Path) -> None:
    whole, part = made.read_bytes(), tmp_path / "part.pack"
    for size in [0, 1, 20, *range(40, len(whole), 97), len(whole) - 1]:
        part.write_bytes(whole[:size])
        with pytest.raises(errors.RefusedError, match=r"cut off|no pack"):
            pack_reader.Pack(str(part))


@pytest.mark.ordering("K2")
def test_changed_bytes_are_noticed_or_without_meaning(made: pathlib.Path, tmp_path: pathlib.Path) -> None:
    whole, changed = made.read_bytes(), tmp_path / "changed.pack"
    chosen = random.Random(1)
    n_noticed = 0
    for _ in range(400):
        place = chosen.randrange(len(whole))
        content = bytearray(whole)
        content[place] ^= 1 << chosen.randrange(8)
        changed.write_bytes(content)
        try:
            # Times of members, for instance, have no meaning.
            assert read(changed) == CONTENT
        except errors.AggregatorError:
            n_noticed += 1
    assert n_noticed > 300


def rewritten(made: pathlib.Path, change: Callable[[zipfile.ZipFile], None], leave_out: str = "") -> None:
    """Write a pack anew, with something else in it."""
    with zipfile.ZipFile(made) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            if name != leave_out:
                archive.writestr(name, content)
        change(archive)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda out: out.writestr("files/../../etc/passwd", b""), "is called"),
        (lambda out: out.writestr("/etc/passwd", b""), "is called"),
        (lambda out: out.writestr(f"files/{ID}/x", b""), "is called"),
        (lambda out: out.writestr(f"files/{ID}.json\n", b""), "is called"),
        (lambda out: out.writestr("files/x.json", b""), "is called"),
        (lambda out: out.writestr(f"files/{ID}.json", b"other"), "twice"),
        (lambda out: out.writestr(f"files/{ID}.b", bytes(9999), zipfile.ZIP_DEFLATED), "compressed"),
        (lambda out: out.writestr("quanta.7.msgpack.zst", b""), "not as the manifest says"),
    ],
)
def test_other_members_are_refused(
    made: pathlib.Path, change: Callable[[zipfile.ZipFile], None], message: str
) -> None:
    rewritten(made, change)
    with pytest.raises(errors.AggregatorError, match=message):
        pack_reader.Pack(str(made))


def test_encrypted_members_are_refused(made: pathlib.Path) -> None:
    content = bytearray(made.read_bytes())
    place = content.index(b"PK\x01\x02")
    content[place + 8] |= 1
    made.write_bytes(content)
    with pytest.raises(errors.RefusedError, match="encrypted"):
        pack_reader.Pack(str(made))


def test_members_in_one_place_are_refused(made: pathlib.Path) -> None:
    """Many entries of the directory for the same bytes would make much of a small file."""
    content = bytearray(made.read_bytes())
    entry = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 1)
    size = 1 << 28
    content[entry + 20 : entry + 28] = struct.pack("<II", size, size)
    made.write_bytes(content)
    with pytest.raises(errors.RefusedError, match="larger than itself"):
        pack_reader.Pack(str(made))


def test_a_version_of_the_future_is_refused(made: pathlib.Path) -> None:
    rewritten(made, lambda out: out.writestr(packs.MARK, b"2"), leave_out=packs.MARK)
    with pytest.raises(errors.RefusedError, match=r"version '2', this program knows version 1"):
        pack_reader.Pack(str(made))


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (BOMB, "at most"),
        (zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1 << 20)), "at most"),
        (b"no frame", "damaged"),
        (zstandard.ZstdCompressor().compress(msgspec.msgpack.encode([["x"]])), "length 3, got 1"),
        (zstandard.ZstdCompressor().compress(b"\x91" * 100_000 + b"\x90"), "recursion|expected"),
    ],
    ids=["bomb", "unknown size", "no frame", "other rows", "deep"],
)
def test_batches_that_are_none(tmp_path: pathlib.Path, frame: bytes, message: str) -> None:
    path = tmp_path / "a.pack"
    with pack_writer.Writer(str(path), lambda: None) as out:
        out.add(f"{packs.QUANTA}.0.msgpack.zst", [frame])
        out.finish(manifest())
    with pack_reader.Pack(str(path)) as pack, pytest.raises(errors.FormatError, match=f"(?i){message}"):
        list(pack.table(packs.QUANTA, packs.PackedQuantum))


def test_a_file_of_another_size_is_not_read(made: pathlib.Path) -> None:
    with pack_reader.Pack(str(made)) as pack, pytest.raises(errors.FormatError, match="has not the 5 bytes"):
        next(pack.file(f"{ID}.json", 5, ""))


@pytest.mark.parametrize(
    ("component", "path", "name"),
    [
        (None, "a/b.c/image.fits.gz", f"{ID}.fits.gz"),
        ("wcs", "a/image.fits", f"{ID}-wcs.fits"),
        (None, "a/no-extension", ID),
        (None, "a/.hidden", ID),
        (None, "a/odd.e x", ID),
    ],
)
def test_flat_names(component: str | None, path: str, name: str) -> None:
    assert packs.flat_name(ID, component, path) == name
    assert packs.is_flat_name(name)


def test_what_is_no_file_is_refused(tmp_path: pathlib.Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(errors.RefusedError, match="can't open the pack"):
            pack_reader.Pack(str(path))
