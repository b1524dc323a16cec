"""What happens around each request of a worker: its log, its profile, and what it is called."""

from __future__ import annotations

import logging
import pathlib
import pstats
from collections.abc import Iterator
from typing import Any

import pytest
from aggregator.schemas import messages, output_paths
from aggregator.storage import errors
from aggregator.workers import log_levels
from aggregator.workers.roles import handling

SHARD = messages.ScanShard(7, b"", b"", b"")


def setup(**changes: Any) -> messages.Setup:
    """Return a setup without anything but what is about logs and profiles."""
    values: dict[str, Any] = dict.fromkeys(messages.Setup.__struct_fields__)
    values |= {"protection": output_paths.Protection(), "worker_log_level": "VERBOSE"}
    return messages.Setup(**(values | changes))


class Role:
    """Answers that it is ready, unless it shall fail."""

    def __init__(self, given: messages.Setup, log: logging.Logger) -> None:
        self.log = log
        self.is_closed = False

    def handle(self, request: messages.Request) -> messages.Reply:
        if isinstance(request, messages.Flush):
            raise KeyError("nothing to flush")
        self.log.warning("look at %s", "this")
        return messages.Ready()

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[handling.Worker]:
    monkeypatch.setattr(handling, "load", lambda kind: Role)
    made = handling.Worker("writer", "writer")
    yield made
    made.close()


@pytest.mark.parametrize(
    ("kind", "name"), [("scanner", "Scanner"), ("ingester", "Ingester"), ("writer", "Writer")]
)
def test_roles_have_names(kind: str, name: str) -> None:
    assert getattr(handling.load(kind), "__name__", None) == name


def test_there_are_no_other_roles() -> None:
    with pytest.raises(ValueError, match="unknown role 'reader'"):
        handling.load("reader")


def test_a_log_tells_of_each_message(worker: handling.Worker, tmp_path: pathlib.Path) -> None:
    worker.handle(setup(worker_log_dir=str(tmp_path)))
    worker.handle(SHARD)
    with pytest.raises(KeyError):
        worker.handle(messages.Flush())
    worker.close()
    lines = (tmp_path / "writer.log").read_text().splitlines()
    told = [line.split(" ", 2) for line in lines if not line.startswith(" ")]
    assert [level for level, _, _ in told] == ["VERBOSE"] * 2 + ["WARNING", "VERBOSE", "ERROR", "VERBOSE"]
    assert all(time.endswith("Z") for _, time, _ in told)
    texts = [text for _, _, text in told]
    assert texts[0].startswith("starting as process ")
    assert texts[1].startswith("Setup in 0.")
    assert texts[2] == "look at this"
    assert texts[3].startswith("ScanShard 7 in 0.")
    assert texts[4:] == ["failed in Flush", "done"]
    assert "  KeyError: 'nothing to flush'" in lines


def test_levels_that_are_not_asked_for_are_not_told(worker: handling.Worker, tmp_path: pathlib.Path) -> None:
    worker.handle(setup(worker_log_dir=str(tmp_path), worker_log_level="warning"))
    worker.handle(SHARD)
    assert (tmp_path / "writer.log").read_text().endswith(" look at this\n")
    assert len((tmp_path / "writer.log").read_text().splitlines()) == 1


def test_without_a_directory_nothing_is_told(
    worker: handling.Worker, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    worker.handle(setup())
    worker.handle(SHARD)
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_a_closed_worker_leaves_its_logger_as_it_was(worker: handling.Worker, tmp_path: pathlib.Path) -> None:
    log = logging.getLogger("workers.writer")
    worker.handle(setup(worker_log_dir=str(tmp_path)))
    assert not log.propagate
    worker.close()
    assert (log.propagate, log.level, log.handlers) == (True, logging.NOTSET, [])


def test_an_unknown_level_is_refused(worker: handling.Worker) -> None:
    with pytest.raises(errors.RefusedError, match="unknown log level 'LOUD'"):
        worker.handle(setup(worker_log_level="LOUD"))
    assert log_levels.number("trace") < logging.DEBUG < log_levels.number("Verbose") < logging.INFO


def test_a_log_that_cannot_be_written_is_refused(worker: handling.Worker, tmp_path: pathlib.Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(errors.RefusedError, match=r"can't write the log \(No such file.*another directory"):
        worker.handle(setup(worker_log_dir=str(missing)))


def test_a_worker_that_was_not_set_up_does_nothing(worker: handling.Worker) -> None:
    with pytest.raises(RuntimeError, match="not set up"):
        worker.handle(SHARD)


def test_a_profile_is_written_at_the_end(worker: handling.Worker, tmp_path: pathlib.Path) -> None:
    worker.handle(setup(worker_profile_dir=str(tmp_path)))
    worker.handle(SHARD)
    assert not list(tmp_path.iterdir())
    worker.close()
    functions = {name for _, _, name in pstats.Stats(str(tmp_path / "writer.profile")).stats}  # type: ignore[attr-defined]
    assert "_answer" in functions


@pytest.mark.parametrize("what", ["notes", "nothing"])
def test_a_profile_that_cannot_be_written_is_no_failure(
    worker: handling.Worker, tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str], what: str
) -> None:
    place = tmp_path / "place"
    worker.handle(setup(worker_profile_dir=str(place)))
    if what == "notes":
        place.mkdir()
        (place / "writer.profile").write_text("my notes")
    worker.close()
    assert "No profile is written: " in capfd.readouterr().err
    assert not place.exists() or (place / "writer.profile").read_text() == "my notes"


def test_messages_have_descriptions() -> None:
    assert handling.describe(messages.FindFile(SHARD)) == "FindFile 7"
    assert handling.describe(messages.BuildInputs(3, b"", b"", False, 9)) == "BuildInputs 3"
    assert handling.describe(messages.CommitShard(2, b"")) == "CommitShard 2"
    assert handling.describe(messages.BuildOutputs(4, b"", b"")) == "BuildOutputs 4"
    assert handling.describe(messages.Begin()) == "Begin"


def test_only_what_is_done_again_may_be_given_up() -> None:
    scanner, ingester, writer = (handling.program(kind, kind) for kind in ("scanner", "ingester", "writer"))
    assert scanner.may_give_up(SHARD)
    assert writer.may_give_up(messages.FinishGraph(1))
    assert not writer.may_give_up(messages.PublishGraph())
    assert not ingester.may_give_up(messages.Flush())
    assert not any(program.may_give_up(setup()) for program in (scanner, ingester, writer))
