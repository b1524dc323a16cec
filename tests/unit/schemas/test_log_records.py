import itertools
import json
import math
from typing import Any

import msgspec
import pytest
from aggregator.schemas.execution import log_records, task_metadata

INVALID = (ValueError, msgspec.MsgspecError, RecursionError)


def record(**changes: Any) -> dict[str, Any]:
    plain = {
        "name": "lsst.clean",
        "asctime": "2026-11-22T01:26:34.412342Z",
        "message": 'ü "quoted" ###EXTRA###',
        "levelno": 20,
        "levelname": "INFO",
        "filename": "clean.py",
        "pathname": "/a/clean.py",
        "lineno": 5,
        "funcName": "run",
        "process": 77,
        "processName": "MainProcess",
        "exc_info": None,
        "MDC": {"LABEL": "clean:{visit: 1}", "RUN": "u/run"},
        **changes,
    }
    return {name: value for name, value in plain.items() if value is not ...}


RECORDS = [record(), record(funcName=..., exc_info=..., MDC={}), record(exc_info="Traceback\n  line")]
METADATA = {"scalars": {"x": math.nan, "y": -math.inf}, "arrays": {"z": [1, math.inf]}, "metadata": {}}
EXCEPTION = {"type_name": "ValueError", "message": "no", "metadata": {"a": 1.5, "b": None}}
IDS = ["01a200dc-a8c6-77a6-8839-7ca00bcb3374", "01a200dc-a8c7-77a6-8839-7ca00bcb3375"]
PREVIOUS = {
    "exception": EXCEPTION,
    "metadata": {"scalars": {"n": 1}, "arrays": {}, "metadata": {}},
    "previous_process_quanta": IDS[:1],
    "logs": RECORDS[:1],
    "previous_attempts": [],
}
EXTRA = {
    "exception": EXCEPTION,
    "metadata": {"scalars": {"n": 2}, "arrays": {}, "metadata": {}},
    "previous_process_quanta": IDS,
    "logs": [],
    "previous_attempts": [PREVIOUS, {**PREVIOUS, "logs": [], "exception": None, "metadata": None}],
}


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def v2(records: Any = RECORDS, extra: Any = (), **others: Any) -> bytes:
    return compact({"extended": True, "version": 2, "records": records, **dict(extra), **others})


def stream(records: list[Any], extra: bytes | None = None) -> bytes:
    lines = b"".join(compact(r) + b"\n" for r in records)
    return lines if extra is None else lines + b"###EXTRA###\n" + extra


def plain_extra(extra: log_records.Extra) -> dict[str, Any]:
    return {
        "exception": None if extra.exception is None else msgspec.to_builtins(extra.exception),
        "metadata": json.loads(bytes(extra.metadata)),
        "previous_process_quanta": extra.previous_process_quanta,
        "logs": json.loads(bytes(extra.logs)),
        "previous_attempts": [plain_extra(previous) for previous in extra.previous_attempts],
    }


NO_EXTRA = {
    "exception": None,
    "metadata": None,
    "previous_process_quanta": [],
    "logs": [],
    "previous_attempts": [],
}

LAYOUTS: dict[str, tuple[bytes, list[Any], dict[str, Any]]] = {
    "empty": (b"", [], {}),
    "list": (compact(RECORDS), RECORDS, {}),
    "list without records": (b"[]", [], {}),
    "list with white space": (json.dumps(RECORDS, indent=1).encode() + b"\n\n", RECORDS, {}),
    "v2": (v2(extra=EXTRA), RECORDS, EXTRA),
    "v2 without extra": (v2(), RECORDS, {}),
    "v2 without records": (compact({"extended": True, "version": 2, **EXTRA}), [], EXTRA),
    "v2 of another version": (v2(version=99), RECORDS, {}),
    "v2 with unknown extra": (v2(extra={"unknown": [1, {"a": None}], **EXTRA}), RECORDS, EXTRA),
    "v2 with white space": (
        b'{"extended":true,' + json.dumps({"version": 2, "records": RECORDS}, indent=2)[1:].encode(),
        RECORDS,
        {},
    ),
    "v2 with constants": (
        v2(extra={**EXTRA, "metadata": METADATA}),
        RECORDS,
        {**EXTRA, "metadata": METADATA},
    ),
    "v2 with constants before": (
        v2(extra={**EXTRA, "previous_attempts": [{**PREVIOUS, "metadata": METADATA}]}),
        RECORDS,
        {**EXTRA, "previous_attempts": [{**PREVIOUS, "metadata": METADATA}]},
    ),
    "v2 with an infinite exception": (
        v2(extra={"exception": {**EXCEPTION, "metadata": {"a": math.inf}}}),
        RECORDS,
        {"exception": {**EXCEPTION, "metadata": {"a": math.inf}}},
    ),
    "stream": (stream(RECORDS), RECORDS, {}),
    "stream without last newline": (stream(RECORDS)[:-1], RECORDS, {}),
    "stream with blank lines": (stream(RECORDS).replace(b"\n", b" \r\n\n \n"), RECORDS, {}),
    "stream with extra": (stream(RECORDS, b'{"exception":null,"metadata":{}}'), RECORDS, {"metadata": {}}),
    "stream with all extra": (stream(RECORDS, compact(EXTRA) + b"\n"), RECORDS, EXTRA),
    "stream with extra on many lines": (
        stream(RECORDS, json.dumps(EXTRA, indent=2).encode()),
        RECORDS,
        EXTRA,
    ),
    "stream with constants": (
        stream(RECORDS, compact({"metadata": METADATA})),
        RECORDS,
        {"metadata": METADATA},
    ),
    "stream of nothing but extra": (stream([], compact(EXTRA)), [], EXTRA),
    "stream of nothing but the delimiter": (b"###EXTRA###\n", [], {}),
    "stream ending with the delimiter": (stream(RECORDS, b""), RECORDS, {}),
    "stream ending in the delimiter": (stream(RECORDS) + b"###EXTRA###", RECORDS, {}),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_read(name: str) -> None:
    data, records, extra = LAYOUTS[name]
    log = log_records.parse(data)
    assert json.loads(log.records) == records
    wanted = {**NO_EXTRA, **extra}
    assert json.dumps(plain_extra(log.extra)) == json.dumps(wanted)
    assert b"\n" not in log.records or b"white" in name.encode()


def test_documents_are_kept_byte_for_byte() -> None:
    odd = compact(record(lineno=5)).replace(b'"lineno":5', b'"lineno":5 ,"unknown":1.50e+1')
    for data in (b"[" + odd + b"]", b'{"extended":true,"version":2,"records":[' + odd + b"]}", odd + b"\n"):
        assert log_records.parse(data).records == b"[" + odd + b"]"
    metadata = b'{"scalars": {"x":1.50e+1,"\\u0041":1}}'
    log = log_records.parse(b'{"extended":true,"version":2,"metadata":' + metadata + b"}")
    assert bytes(log.extra.metadata) == metadata


def test_constants_are_kept() -> None:
    log = log_records.parse(v2(extra={**EXTRA, "metadata": METADATA}))
    assert bytes(log.extra.metadata) == compact(METADATA)
    assert b'"x":NaN,"y":-Infinity' in bytes(log.extra.metadata)


LENIENT = [
    {"asctime": 1800000000},
    {"asctime": 1800000000.25},
    {"asctime": "2026-11-22T01:26:34+01:00"},
    {"asctime": "2026-11-22 01:26:34.5"},
    {"asctime": "2026-11-22"},
    {"levelno": "20", "lineno": "7", "process": "1"},
    {"levelno": 20.0},
    {"unknown": {"a": [None]}},
    {"funcName": None, "exc_info": None},
]
REFUSED: list[dict[str, Any]] = [
    *({name: ...} for name in record() if name not in ("funcName", "exc_info")),
    *({name: None} for name in record() if name not in ("funcName", "exc_info")),
    {"asctime": "yesterday"},
    {"levelno": "high"},
    {"levelno": 20.5},
    {"message": 7},
    {"funcName": 7},
    {"MDC": {"a": 1}},
    {"MDC": []},
    {"message": "\ud800"},
    {"unknown": "\udfff"},
]


def in_layouts(value: Any) -> list[bytes]:
    """Return logs in three layouts, with a record that is the second of two; surrogates are escaped."""
    text = json.dumps(value, separators=(",", ":")).encode()
    first = compact(record())
    return [
        b"[" + first + b"," + text + b"]",
        b'{"extended":true,"version":2,"records":[' + first + b"," + text + b"]}",
        first + b"\n" + text + b"\n",
    ]


BROKEN: dict[str, bytes] = {
    "text": b"INFO: started",
    "white space": b"\n",
    "white space first": b" " + v2(),
    "white space before a list": b" []",
    "byte order mark": b"\xef\xbb\xbf" + v2(),
    "utf-16": compact(RECORDS).decode().encode("utf-16-le"),
    "list cut off": compact(RECORDS)[:-1],
    "list and more": compact(RECORDS) + b"x",
    "list of lists": b"[[]]",
    "list of nothing": b"[null]",
    "v2 cut off": v2(extra=EXTRA)[:-10],
    "v2 and more": v2() + b"}",
    "v2 without version": compact({"extended": True, "records": RECORDS}),
    "v2 with version null": v2(version=None),
    "v2 with space": json.dumps({"extended": True, "version": 2, "records": RECORDS}).encode(),
    "v2 with version first": compact({"version": 2, "extended": True, "records": RECORDS}),
    "v2 with records null": v2(None),
    "v2 with an object as records": v2({}),
    "stream cut off": stream(RECORDS)[:-20],
    "stream of something else": b'{"a":1}\n',
    "stream with garbage": stream(RECORDS) + b"garbage\n",
    "stream with an empty extra": stream(RECORDS, b"\n"),
    "stream with extra cut off": stream(RECORDS, compact(EXTRA)[:-1]),
    "stream with two extras": stream(RECORDS, b"{}\n###EXTRA###\n{}"),
    "stream with two records on a line": compact(RECORDS[0]) + b" " + compact(RECORDS[1]),
    "not utf-8": compact(RECORDS).replace("ü".encode(), b"\xfc"),
    "v2 not utf-8": v2(extra={"metadata": {"scalars": {"x": "ü"}}}).replace("ü".encode(), b"\xfc"),
    "v2 not utf-8 in unknown extra": v2(extra={"unknown": "ü"}).replace("ü".encode(), b"\xfc"),
    "stream not utf-8": stream(RECORDS).replace("ü".encode(), b"\xfc"),
    "v2 with a surrogate": v2(extra={"unknown": "@"}).replace(b"@", b"\\ud83d"),
    "v2 with a surrogate in metadata": v2(extra={"metadata": {"other": "@"}}).replace(b"@", b"\\uDC00"),
    "control character": compact(RECORDS).replace(b"INFO", b"\x01"),
}
BROKEN_EXTRA: dict[str, Any] = {
    "exception text": {"exception": "ValueError"},
    "exception without metadata": {"exception": {"type_name": "E", "message": "m"}},
    "exception with nested metadata": {"exception": {**EXCEPTION, "metadata": {"a": []}}},
    "logs of the last attempt": {"logs": RECORDS},
    "logs null": {"logs": None},
    "quanta null": {"previous_process_quanta": None},
    "quanta of integers": {"previous_process_quanta": [1]},
    "attempts null": {"previous_attempts": None},
    "attempts of nothing": {"previous_attempts": [None]},
    "attempt with an exception text": {"previous_attempts": [{"exception": "E"}]},
}


@pytest.mark.parametrize("changes", LENIENT, ids=str)
def test_lenient_records_are_accepted(changes: dict[str, Any]) -> None:
    for data in in_layouts(record(**changes)):
        assert json.loads(log_records.parse(data).records) == [record(), record(**changes)]


@pytest.mark.parametrize("changes", REFUSED, ids=ascii)
def test_records_that_are_none_are_refused(changes: dict[str, Any]) -> None:
    for data in in_layouts(record(**changes)):
        with pytest.raises(INVALID):
            log_records.parse(data)


NO_TEXT = [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\\ud83d", b"\\uDC00"]


def test_what_is_no_unicode_is_refused_wherever_it_is() -> None:
    marked = record(message="@", MDC={"@": "@"}, funcName="@", exc_info="@")
    metadata = {"scalars": {"@": "@"}, "arrays": {"x": ["@"]}, "metadata": {"@": {}}}
    attempt = {**PREVIOUS, "exception": {**EXCEPTION, "message": "@"}, "metadata": metadata, "logs": [marked]}
    extra = {**attempt, "logs": [], "previous_attempts": [attempt], "previous_process_quanta": ["@"]}
    whole = v2([marked], extra)
    for data in (
        compact([marked]),
        whole,
        whole[:-1] + b',"records":[]}',
        v2([], {"metadata": {"a": "@[]@"}}),
    ):
        log_records.parse(data)
        places = [i for i, byte in enumerate(data) if byte == ord("@")]
        for place, wrong in itertools.product(places, NO_TEXT):
            with pytest.raises(INVALID):
                log_records.parse(data[:place] + wrong + data[place + 1 :])


def test_halves_of_a_character_on_both_sides_of_a_copy_of_the_records_are_none() -> None:
    for halves in ((b"\xc3", b"\xbc"), (b"\\ud83d", b"\\ude00")):
        text = b"[]".join(halves)
        with pytest.raises(INVALID):
            log_records.parse(b'{"extended":true,"version":2,"metadata":{"a":"%b"},"records":[]}' % text)


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_log_is_refused(name: str) -> None:
    with pytest.raises(INVALID):
        log_records.parse(BROKEN[name])


def extra_layouts(extra: dict[str, Any]) -> list[bytes]:
    """Return logs with an extra, parsed in one way and, for its NaN, in another."""
    return [v2(extra=extra), v2(extra={**extra, "x": math.nan}), stream(RECORDS, compact(extra))]


@pytest.mark.parametrize("name", BROKEN_EXTRA)
def test_an_extra_that_is_none_is_refused(name: str) -> None:
    for data in extra_layouts(BROKEN_EXTRA[name]):
        with pytest.raises(INVALID):
            log_records.parse(data)


def test_white_space_in_an_empty_list_is_nothing() -> None:
    for text in (b"[]", b"[ ]", b"[  ]", b"[\n]"):
        log = log_records.parse(b'{"extended":true,"version":2,"logs": ' + text + b" }")
        assert json.loads(bytes(log.extra.logs)) == []


def test_records_are_counted() -> None:
    assert log_records.check_records(compact(RECORDS)).n_records == 3
    assert log_records.check_records(compact([record(levelno="20"), record()])).n_records == 2
    with pytest.raises(INVALID):
        log_records.check_records(b"{}")
    with pytest.raises(INVALID):
        log_records.check_records(b'[{"a":NaN}]')


def test_check_text_wants_utf_8() -> None:
    task_metadata.check_text("aüß😀".encode())
    with pytest.raises(UnicodeDecodeError):
        task_metadata.check_text(b"a\xff")


def in_pieces(data: bytes, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what comes of a list of records, parsed at once and in pieces of several sizes."""
    found: list[Any] = []
    for size in (len(data), 1, 64, 300, 700):
        monkeypatch.setattr(log_records, "_PIECE", size)
        try:
            found.append(log_records.check_records(data).n_records)
        except ValueError as exc:
            found.append(type(exc))
    return found


TRAPS = [
    record(message='},{"name'),
    record(MDC={"a": "1"}, message="},{"),
    record(message="x" * 500),
    record(levelno="20"),
]


@pytest.mark.parametrize("records", [[], RECORDS, RECORDS * 5, TRAPS, TRAPS * 3])
def test_large_lists_are_checked_in_pieces(
    records: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert in_pieces(compact(records), monkeypatch) == [len(records)] * 5
    spaced = json.dumps(records, indent=1).encode()
    assert in_pieces(spaced, monkeypatch) == [len(records)] * 5


def test_places_between_objects_in_a_record_are_none_between_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is unknown in a record is ignored, also if it holds a list of objects."""
    records = [record(unknown=[{"a": 1}, {"b": 2}, {"c": 3}])] * 4
    assert in_pieces(compact(records), monkeypatch) == [4] * 5


@pytest.mark.parametrize(
    "data",
    [
        compact({"a": RECORDS * 4}),
        compact([*RECORDS, record(levelno="x"), *RECORDS]),
        compact([*RECORDS, 5, *RECORDS]),
        compact(RECORDS * 4)[:-1],
        compact(RECORDS * 4) + b"]",
        compact(RECORDS * 4).replace(b"lsst", b"\xffsst"),
    ],
)
def test_damage_is_found_in_pieces_too(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(issubclass(kind, ValueError) for kind in in_pieces(data, monkeypatch))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b'{"extended":true,"version":2,"extended":false,"records":[]}', "does not begin as it goes on"),
        (b'{"extended":true,"version":"2","extended":"no","records":[]}', "does not begin as it goes on"),
        (b'{"extended":true,"version":"two","records":[]}', "not a whole number"),
        (stream(RECORDS, b"[1]"), "the extra block of the log is not an object"),
        (stream(RECORDS, b'"x"'), "the extra block of the log is not an object"),
        (b"\x7fELF", "not a log file: it begins with"),
    ],
)
def test_files_that_are_no_logs(data: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        log_records.parse(data)


def test_an_extra_without_anything_is_none() -> None:
    for extra in (b"", b"{}", b"[]", b"null", b"0"):
        assert plain_extra(log_records.parse(stream(RECORDS, extra)).extra) == NO_EXTRA
