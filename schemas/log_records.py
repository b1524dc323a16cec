"""Log files in all their layouts (execution-files.md section 2)."""

import datetime
import json
from typing import Any

import msgspec

from schemas import task_metadata

_EXTRA_DELIMITER = b"###EXTRA###"
_V2_START = b'{"extended":true'
_NULL = b"null"


class LogRecord(msgspec.Struct, gc=False):
    """One log message."""

    name: str
    """Logger."""
    asctime: datetime.datetime
    """When, UTC."""
    message: str
    """Text."""
    levelno: int
    """Level as a number."""
    levelname: str
    """Level as a name."""
    filename: str
    """Source file."""
    pathname: str
    """Its path."""
    lineno: int
    """Its line."""
    process: int
    """Process id."""
    processName: str  # noqa: N815
    """Process name."""
    MDC: dict[str, str]
    """Mapped diagnostic context."""
    funcName: str | None = None  # noqa: N815
    """Function."""
    exc_info: str | None = None
    """Formatted traceback."""


class Extra(msgspec.Struct):
    """What execution stores with the records of an attempt."""

    exception: task_metadata.ExceptionInfo | None = None
    """Exception, if this attempt failed."""
    metadata: msgspec.Raw = msgspec.Raw(_NULL)
    """Metadata, if this attempt failed."""
    previous_process_quanta: list[str] = []
    """Quanta that ran earlier in the same process."""
    logs: msgspec.Raw = msgspec.Raw(b"[]")
    """Records of a previous attempt; empty for the last."""
    previous_attempts: list["Extra"] = []
    """Attempts before this one, oldest first."""


class _V2(Extra, kw_only=True):
    version: int
    records: msgspec.Raw = msgspec.Raw(b"[]")


class Log(msgspec.Struct):
    """A parsed log file."""

    records: bytes
    """JSON list of the records."""
    extra: Extra
    """What is stored with them."""


_records_decoder = msgspec.json.Decoder(list[LogRecord])
_record_decoder = msgspec.json.Decoder(LogRecord)
_v2_decoder = msgspec.json.Decoder(_V2)


def parse(data: bytes) -> Log:
    """Return the content of a log file.

    Parameters
    ----------
    data
        Bytes of the file.

    Raises
    ------
    ValueError
        If it has none of the four layouts, or its content is invalid.
    """
    task_metadata.check_text(data)
    if not data:
        return Log(b"[]", Extra())
    if data.startswith(b"["):
        task_metadata.check_surrogates(data)
        check_records(data)
        return Log(data.strip(), Extra())
    if data.startswith(_V2_START):
        return _parse_v2(data)
    if data.startswith((b"{", _EXTRA_DELIMITER)):
        return _parse_streaming(data)
    raise ValueError(f"not a log file: it begins with {data[:32]!r}")


def check_records(data: bytes) -> int:
    """Return how many records a JSON list holds.

    Raises
    ------
    ValueError
        If it is no list of valid records.
    """
    try:
        return len(_records_decoder.decode(data))
    except msgspec.DecodeError:
        values = task_metadata.parse_lenient(data)
        if not isinstance(values, list):
            raise ValueError("log records are not a list") from None
        for value in values:
            convert_record(value)
        return len(values)


def convert_record(value: Any) -> LogRecord:
    """Return a record from a parsed document, with the reference's leniency: numbers may be texts."""
    record = dict(value) if isinstance(value, dict) else value
    if isinstance(record, dict) and isinstance(record.get("asctime"), str):
        record["asctime"] = datetime.datetime.fromisoformat(record["asctime"])
    return msgspec.convert(record, LogRecord, strict=False)


def _parse_v2(data: bytes) -> Log:
    task_metadata.check_surrogates(data)
    try:
        parsed = _v2_decoder.decode(data)
        records = bytes(parsed.records)
        extra: Extra = parsed
    except msgspec.DecodeError:
        document = task_metadata.parse_lenient(data)
        if not isinstance(document, dict) or not isinstance(document.get("version"), int):
            raise ValueError("log file has no version") from None
        records = _dump(document.get("records", []))
        extra = _convert_extra(document)
    check_records(records)
    check_extra(extra)
    return Log(records, extra)


def _parse_streaming(data: bytes) -> Log:
    head, delimiter, tail = data.partition(b"\n" + _EXTRA_DELIMITER)
    if data.startswith(_EXTRA_DELIMITER):
        head, delimiter, tail = b"", _EXTRA_DELIMITER, data[len(_EXTRA_DELIMITER) :]
    lines = [line for line in map(bytes.rstrip, head.split(b"\n")) if line]
    for line in lines:
        task_metadata.check_surrogates(line)
        try:
            _record_decoder.decode(line)
        except msgspec.DecodeError:
            convert_record(task_metadata.parse_lenient(line))
    extra = Extra()
    text = tail.partition(b"\n")[2] if delimiter else b""
    if text:
        document = task_metadata.parse_lenient(text)
        if not isinstance(document, dict):
            raise ValueError("the extra block of the log is not an object")
        extra = _convert_extra(document)
        check_extra(extra)
    return Log(b"[" + b",".join(lines) + b"]", extra)


def _convert_extra(document: dict[str, Any]) -> Extra:
    """Return an extra from a parsed document; its parts are written again as JSON texts."""
    previous = document.get("previous_attempts", [])
    if not isinstance(previous, list) or not all(isinstance(p, dict) for p in previous):
        raise ValueError("previous_attempts is not a list of attempts")
    return Extra(
        exception=msgspec.convert(document.get("exception"), task_metadata.ExceptionInfo | None),
        metadata=msgspec.Raw(_dump(document.get("metadata"))),
        previous_process_quanta=msgspec.convert(document.get("previous_process_quanta", []), list[str]),
        logs=msgspec.Raw(_dump(document.get("logs", []))),
        previous_attempts=[_convert_extra(p) for p in previous],
    )


def _dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def check_extra(extra: Extra) -> None:
    """Raise ValueError if the last attempt has records in its extra, where only earlier ones may."""
    if check_records(bytes(extra.logs)):
        raise ValueError("the extra of the last attempt holds records of its own")
