"""Log files in all their layouts (execution-files.md section 2)."""

import datetime
import io
import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import msgspec
from aggregator.schemas.execution import json_depth, lenient_values, task_metadata

_EXTRA_TEXT = "###EXTRA###"
_EXTRA_DELIMITER = _EXTRA_TEXT.encode()
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


class _Record(LogRecord, forbid_unknown_fields=True, gc=False):
    """A record as all known versions write it."""


class _Exception(task_metadata.ExceptionInfo, forbid_unknown_fields=True):
    """An exception as all known versions write it."""


class _Extra(Extra, forbid_unknown_fields=True):
    """An extra as all known versions write it."""

    exception: _Exception | None = None
    previous_attempts: list["_Extra"] = []  # type: ignore[assignment]


class _V2(_Extra, kw_only=True, forbid_unknown_fields=True):
    extended: bool
    version: int
    records: msgspec.Raw = msgspec.Raw(b"[]")


class _Records(msgspec.Struct):
    records: msgspec.Raw = msgspec.Raw(b"[]")


class Extent(NamedTuple):
    """How many records there are, and from when to when."""

    n_records: int
    """Number of records."""
    begin: datetime.datetime | None = None
    """Time of the first one, UTC; nothing if there is none."""
    end: datetime.datetime | None = None
    """Time of the last one."""


class Log(msgspec.Struct):
    """A parsed log file."""

    records: bytes | memoryview
    """JSON list of the records; of a large file, a view of it."""
    extra: Extra
    """What is stored with them."""
    extent: Extent = Extent(0)
    """When they were made."""


_records_decoder = msgspec.json.Decoder(list[_Record])
_record_decoder = msgspec.json.Decoder(_Record)
_v2_decoder = msgspec.json.Decoder(_V2)
_v2_records_decoder = msgspec.json.Decoder(_Records)

_PIECE = 1 << 22
"""Bytes of a list of records that are parsed at once: parsed, they take several times the memory."""

_BETWEEN_RECORDS = re.compile(
    # A quote in a string is escaped, and what follows one that ends a string is no letter: so this is never a
    # part of a string. It can be within a record, but then what is before it is no list.
    rb"\}[ \t\r\n]*(,)[ \t\r\n]*\{[ \t\r\n]*\"[A-Za-z]"
)


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
    if not data:
        return Log(b"[]", Extra())
    if data.startswith(b"["):
        return Log(data, Extra(), check_records(data))
    if data.startswith(_V2_START):
        return _parse_v2(data)
    if data.startswith((b"{", _EXTRA_DELIMITER)):
        return _parse_streaming(data)
    raise ValueError(f"not a log file: it begins with {data[:32]!r}")


def check_records(data: bytes | memoryview) -> Extent:
    """Return how many records a JSON list holds, and from when to when.

    All of it is looked at, so afterwards it is certain to be Unicode text, too.

    Raises
    ------
    ValueError
        If it is no list of valid records, or one that readers of graphs do not take.
    """
    if len(data) <= _PIECE:
        return _check_list(bytes(data))
    view, extents, begin = memoryview(data), [], 1
    if bytes(view[:1]) != b"[":
        raise ValueError("log records are not a list")
    while match := _BETWEEN_RECORDS.search(view, begin + _PIECE):
        try:
            extents.append(_check_list(b"".join((b"[", view[begin : match.start(1)], b"]"))))
        except json.JSONDecodeError:
            # This may have been a place within a record.
            return _check_list(bytes(data))
        begin = match.end(1)
    extents.append(_check_list(b"".join((b"[", view[begin:]))))
    return Extent(sum(each.n_records for each in extents), extents[0].begin, extents[-1].end)


def _check_list(data: bytes) -> Extent:
    try:
        return _extent(_records_decoder.decode(data))
    except msgspec.DecodeError as exc:
        _check_whole(exc)
        values = task_metadata.parse_lenient(data)
        if not isinstance(values, list):
            raise ValueError("log records are not a list") from None
        json_depth.check(data, json_depth.ATTEMPTS)
        return _extent([convert_record(value) for value in values])


def _extent(records: Sequence[LogRecord]) -> Extent:
    return Extent(len(records), records[0].asctime, records[-1].asctime) if records else Extent(0)


def _check_whole(exc: msgspec.DecodeError) -> None:
    """Raise ValueError if a text is cut off: another parser could only take the memory to say the same."""
    if "truncated" in str(exc):
        raise ValueError("the log is cut off") from exc


def convert_record(value: Any) -> LogRecord:
    """Return a record from a parsed document, with the reference's leniency: numbers may be texts.

    Raises
    ------
    ValueError
        If it is no valid record.
    """
    if not isinstance(value, dict):
        raise ValueError("a log record is not an object")
    record = dict(value)
    for name in ("levelno", "lineno", "process"):
        if name in record:
            record[name] = lenient_values.integer(record[name])
    if "asctime" in record:
        record["asctime"] = lenient_values.time(record["asctime"])
    return msgspec.convert(record, LogRecord)


def _parse_v2(data: bytes) -> Log:
    try:
        parsed = _v2_decoder.decode(data)
        if not parsed.extended:
            raise ValueError("the log file does not begin as it goes on")
        _generalize(parsed)
        records, extra = _kept(parsed.records), cast(Extra, parsed)
        _check_around(data, records)
    except msgspec.DecodeError as exc:
        _check_whole(exc)
        document = task_metadata.parse_lenient(data)
        json_depth.check(data)
        if not isinstance(document, dict) or document.get("extended") not in (True, 1):
            raise ValueError("the log file does not begin as it goes on") from None
        lenient_values.integer(document.get("version"))
        records = _v2_records(data, document)
        extra = _convert_extra(document)
    extent = check_records(records)
    check_extra(extra)
    return Log(records, extra, extent)


def _check_around(data: bytes, records: bytes | memoryview) -> None:
    """Raise ValueError if a document is no Unicode text somewhere else than in its records.

    They are most of it, and are looked at anyway.
    """
    around, begin = data, data.find(b"[")
    if isinstance(records, bytes) and data.startswith(records, begin):
        # With something in between, since halves of a character must not come together.
        around = b"%b %b" % (data[:begin], data[begin + len(records) :])
    task_metadata.check_text(around)
    task_metadata.check_surrogates(around)


def _generalize(extra: _Extra) -> None:
    """Let exceptions be of the class that all others are of."""
    if (exception := extra.exception) is not None:
        # The field is only narrower for the decoder.
        extra.exception = task_metadata.ExceptionInfo(  # type: ignore[assignment]
            exception.type_name, exception.message, exception.metadata
        )
    for previous in extra.previous_attempts:
        _generalize(previous)


def _kept(text: msgspec.Raw) -> bytes | memoryview:
    """Return a part of a text: of a large one without a copy."""
    return bytes(text) if len(memoryview(text)) <= _PIECE else memoryview(text)


def _v2_records(data: bytes, document: dict[str, Any]) -> bytes | memoryview:
    """Return the records of a document as they are in its text, if that can be told."""
    try:
        return _kept(_v2_records_decoder.decode(data).records)
    except msgspec.DecodeError:
        return _dump(document.get("records", []))


def _parse_streaming(data: bytes) -> Log:
    # The reference reads lines of text, so all kinds of ends of lines count.
    stream = io.TextIOWrapper(io.BytesIO(data), "utf-8")
    lines, first = [], stream.readline()
    rest = first
    if not first.startswith(_EXTRA_TEXT):
        lines.append(first.strip(" \t\r\n"))
        for text in stream:
            rest = text.rstrip()
            if rest.startswith(_EXTRA_TEXT):
                break
            if rest:
                lines.append(rest)
    texts = [line.encode() for line in lines]
    extent = _extent([_check_line(text) for text in texts])
    extra = _parse_extra(stream.read().encode())
    return Log(b"[" + b",".join(texts) + b"]", extra, extent)


def _check_line(line: bytes) -> LogRecord:
    task_metadata.check_surrogates(line)
    try:
        return _record_decoder.decode(line)
    except msgspec.DecodeError:
        record = convert_record(task_metadata.parse_lenient(line))
        json_depth.check(line, json_depth.ATTEMPTS + 1)
        return record


def _parse_extra(text: bytes) -> Extra:
    """Return the extra after the records of a streamed log; there may be none, or an empty value."""
    document = task_metadata.parse_lenient(text) if text else None
    if not document:
        return Extra()
    if not isinstance(document, dict):
        raise ValueError("the extra block of the log is not an object")
    json_depth.check(text)
    extra = _convert_extra(document)
    check_extra(extra)
    return extra


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
    if check_records(memoryview(extra.logs)).n_records:
        raise ValueError("the extra of the last attempt holds records of its own")
