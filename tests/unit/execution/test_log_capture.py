"""What is logged while a quantum runs becomes a log that all readers take."""

from __future__ import annotations

import io
import logging
import pathlib

import msgspec
import pytest
from aggregator.execution import attempt_logs, log_capture
from aggregator.schemas.execution import log_records, log_writer, task_metadata

LABELS = {"LABEL": "task:{visit: 1}", "RUN": "run"}


def captured(*arguments: object, spool: io.BytesIO | None = None) -> log_records.Log:
    """Return the log of one warning."""
    capture = log_capture.Capture(LABELS, spool)
    message, *values = arguments
    # Not through the root logger, whose other handlers take some of these for errors of the test.
    capture.handle(logging.LogRecord("here", 30, "file.py", 1, message, tuple(values), None))
    return log_records.parse(log_writer.log_file(capture.records, log_records.Extra()))


def texts(log: log_records.Log) -> list[str]:
    return [record["message"] for record in msgspec.json.decode(log.records)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("plain",), "plain"),
        (("%d of %s", 3, "ä"), "3 of ä"),
        # What does not fit together is told as it is.
        (("%d", "text"), "'%d' ('text',)"),
        (("half \ud800 a pair",), "half ? a pair"),
    ],
)
def test_messages(arguments: tuple[object, ...], expected: str) -> None:
    assert texts(captured(*arguments)) == [expected]


def test_tracebacks_and_labels_are_there() -> None:
    with log_capture.capturing(LABELS) as capture:
        try:
            raise ValueError("oh")
        except ValueError:
            logging.getLogger("here").exception("failed")
    [record] = map(msgspec.json.decode, capture.records)
    assert record["exc_info"].endswith("ValueError: oh")
    assert record["MDC"] == LABELS


def test_records_outlive_the_process(tmp_path: pathlib.Path) -> None:
    there, here, other = (attempt_logs.Spool(str(tmp_path)) for _ in range(3))
    other.begin("another")
    for quantum_id in ("before", "id"):
        stream = there.begin(quantum_id)
        assert stream is not None
        with log_capture.capturing(LABELS, stream) as capture:
            logging.getLogger("here").warning("one of %s", quantum_id)
            logging.getLogger("here").warning("two of %s", quantum_id)
            assert here.read(quantum_id) == capture.records != []
    assert stream is not None
    # The process ends in the middle of a line.
    stream.write(b'{"name":')
    stream.flush()
    assert here.read("id") == capture.records
    assert here.read("before") == here.read("another") == []
    there.close()
    other.close()


def test_a_full_disk_fails_no_quantum() -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    assert texts(captured("plain", spool=Full())) == ["plain"]
    assert attempt_logs.Spool("/dev/full").begin("id") is None


def test_attempts_before_are_kept_in_order() -> None:
    earlier: list[log_records.Extra] = []
    for name in ("first", "second", "third"):
        exception = task_metadata.ExceptionInfo("ValueError", name, {})
        extra = log_records.Extra(exception=exception, previous_process_quanta=[name])
        log = log_records.parse(log_writer.log_file([log_record(name)], extra, earlier))
        earlier = log_writer.earlier_attempts(log)
    assert [each.exception and each.exception.message for each in earlier] == ["first", "second", "third"]
    assert [msgspec.json.decode(each.logs)[0]["message"] for each in earlier] == ["first", "second", "third"]
    assert all(not each.previous_attempts for each in earlier)


def log_record(text: str) -> bytes:
    record = logging.LogRecord("here", logging.INFO, "file.py", 1, text, None, None, "function")
    return log_writer.record_text(record, LABELS, None)
