"""Many files come to their places: complete, without replacing anything, and without leaving parts behind."""

import os
import pathlib

import pytest
from aggregator.storage import durable_files, errors, file_batches


def _nothing() -> None:
    pass


@pytest.fixture
def pairs(tmp_path: pathlib.Path) -> list[tuple[str, str]]:
    (tmp_path / "from").mkdir()
    for n in range(3):
        (tmp_path / "from" / f"{n}").write_text(f"{n}")
    return [(f"{tmp_path}/from/{n}", f"{tmp_path}/to/deep/{n}/file") for n in range(3)]


@pytest.mark.parametrize("mode", file_batches.MODES)
def test_files_are_in_their_places_and_stay(pairs: list[tuple[str, str]], mode: str) -> None:
    assert file_batches.bring(pairs[:2], mode, _nothing) == []
    pathlib.Path(pairs[2][1]).parent.mkdir()
    pathlib.Path(pairs[2][1]).write_text("other")
    assert file_batches.bring(pairs, mode, _nothing) == [0, 1, 2]
    assert [pathlib.Path(target).read_text() for _, target in pairs] == ["0", "1", "other"]


def test_copies_can_be_made_several_at_a_time(pairs: list[tuple[str, str]]) -> None:
    pathlib.Path(pairs[1][1]).parent.mkdir(parents=True)
    pathlib.Path(pairs[1][1]).write_text("other")
    assert file_batches.bring(pairs, "copy", _nothing, 3) == [1]
    assert [pathlib.Path(target).read_text() for _, target in pairs] == ["0", "other", "2"]
    again = [(source, f"{target}.again") for source, target in pairs]
    os.unlink(pairs[1][0])
    with pytest.raises(errors.AggregatorError, match="/from/1: can't be brought"):
        file_batches.bring(again, "copy", _nothing, 3)


@pytest.mark.parametrize("mode", file_batches.MODES)
def test_links_are_followed(tmp_path: pathlib.Path, pairs: list[tuple[str, str]], mode: str) -> None:
    link = tmp_path / "link"
    link.symlink_to(pairs[0][0])
    file_batches.bring([(str(link), pairs[0][1])], mode, _nothing)
    link.unlink()
    assert pathlib.Path(pairs[0][1]).read_text() == "0"


@pytest.mark.parametrize("mode", ["copy", "hardlink", "auto"])
def test_a_missing_file_is_named(pairs: list[tuple[str, str]], mode: str) -> None:
    os.unlink(pairs[1][0])
    with pytest.raises(errors.AggregatorError, match="/from/1: can't be brought"):
        file_batches.bring(pairs, mode, _nothing)
    assert pathlib.Path(pairs[0][1]).read_text() == "0"


def test_parts_of_killed_copies_are_removed(
    pairs: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    left = pathlib.Path(durable_files.temporary_name(pairs[0][1]))
    left.parent.mkdir(parents=True)
    left.write_text("part")
    other = left.parent / "other.tmp"
    other.write_text("mine")
    file_batches.bring(pairs[:1], "copy", _nothing)
    assert left.exists(), "somebody may be writing it"
    os.unlink(pairs[0][1])
    monkeypatch.setattr(file_batches, "ABANDONED_SECONDS", -1.0)
    file_batches.bring(pairs[:1], "copy", _nothing)
    assert not left.exists()
    assert other.exists()


def test_many_directories_are_synced_at_once(tmp_path: pathlib.Path, pairs: list[tuple[str, str]]) -> None:
    many = [(pairs[0][0], f"{tmp_path}/many/{n}/file") for n in range(300)]
    assert file_batches.bring(many, "hardlink", _nothing) == []
    assert os.stat(pairs[0][0]).st_nlink == 301
