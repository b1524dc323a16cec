"""Odd values in every field of logs and metadata: taken and refused as by the reference's readers."""

from __future__ import annotations

import copy
import datetime
import json
import math
import random
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aggregator.schemas.execution import json_depth, lenient_values, log_records
from aggregator.schemas.graphs import blocks
from aggregator.workers.roles.scanning import outcome, shard_builder

from tests.oracle import test_outcome as reference_outcome
from tests.unit.schemas import test_log_records
from tests.unit.workers import test_outcome

UUID = "01a200dc-a8c6-77a6-8839-7ca00bcb3374"
DEEP = json.loads("[" * 60 + "1" + "]" * 60)

NUMBERS: list[Any] = [
    *(0, -3, 20.0, 20.5, 1e18, 1e19, -1e19, 2**63, 2**64, 10**30, math.nan, math.inf, -math.inf, True, False),
    *(
        None,
        [],
        {},
        "",
        " ",
        "20",
        " 20 ",
        "\t20\n",
        "\u00a020",
        "\x1c20",
        "20.0",
        "20.00",
        "20.",
        ".0",
        "20.5",
    ),
    *(
        "+20",
        "-3",
        "--1",
        "020",
        "0-3",
        "00-0",
        "1_000",
        "1__0",
        "_1",
        "1_",
        "1_0.0",
        " +1_0 ",
        "1e3",
        "0x10",
    ),
    *("٢٠", "９", "nan", "inf", "x", "9" * 4300, "9" * 4301, "0" * 5000 + "1", "20\x00"),
]
TIMES: list[Any] = [
    *("2026-01-01", "20260101", "2026-W01-1", "2026-001", "20260101T000000", "2026-01-01T00", "2026-1-1"),
    *("2026-01-01T00:00", "2026-01-01 00:00:00", "2026-01-01_00:00:00", "2026-01-01t00:00:00z"),
    *("2026-01-01T24:00:00", "2026-01-01T00:00:60", "2026-02-30T00:00:00", "0000-01-01T00:00:00"),
    *("0001-01-01T00:00:00", "9999-12-31T23:59:59.999999Z", "10000-01-01T00:00:00", "2026-01-01T00:00:00,5"),
    *("2026-01-01T00:00:00.", "2026-01-01T00:00:00.1234567", "2026-01-01T00:00:00.12345678901234567890Z"),
    *("2026-01-01T00:00:00+01", "2026-01-01T00:00:00+0100", "2026-01-01T00:00:00+01:00:30"),
    *("2026-01-01T00:00:00+23:59", "2026-01-01T00:00:00+24:00", "2026-01-01T00:00:00+23:60"),
    *("2026-01-01T00:00:00\u221201:00", "2026-01-01T00:00:00 Z", " 2026-01-01", "2026-01-01 ", "2026-01-01T"),
    *(
        0,
        -1,
        1.5,
        1800000000,
        1800000000000,
        2e10,
        20000000001,
        253402300799999,
        253402300800000,
        1e20,
        10**20,
    ),
    *(
        -62135596800000,
        -62135596800001,
        "1800000000",
        "1800000000.5",
        "-5",
        "+.5",
        "5.",
        "1e9",
        "1.0e0",
        "nan",
    ),
    *(math.nan, math.inf, True, None, [], {}, "", "yesterday", "1800000000 ", "9" * 30),
]
TEXTS: list[Any] = ["", "x", " ", "\u0000", "ü", 7, 1.5, True, None, [], {}, ["x"], DEEP]
VALUES: dict[str, list[Any]] = {
    "asctime": TIMES,
    **dict.fromkeys(["levelno", "lineno", "process"], NUMBERS),
    **dict.fromkeys(
        ["name", "message", "levelname", "filename", "pathname", "funcName", "processName", "exc_info"], TEXTS
    ),
    "MDC": [{}, {"a": "b"}, {"a": 1}, {"a": None}, {"": ""}, [], None, "x", [["a", "b"]]],
    "unknown": [None, 10**30, DEEP, {"a": math.nan}, "x"],
}


def in_layouts(record: dict[str, Any]) -> Iterator[bytes]:
    first = json.dumps(test_log_records.record())
    text = json.dumps(record)
    yield f"[{first},{text}]".encode()
    yield f'{{"extended":true,"version":2,"records":[{first},{text}]}}'.encode()
    yield f"{first}\n{text}\n".encode()
    # As the records of an earlier attempt.
    extra = f'{{"previous_attempts":[{{"logs":[{first},{text}]}}]}}'
    yield f'{{"extended":true,"version":2,{extra[1:]}'.encode()
    yield f"{first}\n###EXTRA###\n{extra}".encode()


@pytest.fixture(scope="module")
def same() -> Callable[[bytes | None, bytes | None], bool]:
    """Return a function that compares with the reference, and says whether the files are taken."""
    pytest.importorskip("lsst.pipe.base")
    document = test_outcome.dump(test_outcome.predicted_document())
    return lambda log, metadata: reference_outcome.assert_same_judgement(document, log, metadata)


Same = Callable[[bytes | None, bytes | None], bool]


@pytest.mark.parametrize("field", VALUES)
def test_fields_of_records(field: str, same: Same) -> None:
    taken = [
        same(data, None)
        for value in VALUES[field]
        for data in in_layouts(test_log_records.record(**{field: value}))
    ]
    assert any(taken)
    assert not all(taken) or field == "unknown"


V2_FIELDS: dict[str, list[Any]] = {
    "version": [*NUMBERS, 99],
    "extended": [True, False, 1, None, "true"],
    "records": [[], None, {}, "", 0],
    "logs": [[], None, {}, "", [1]],
    "previous_process_quanta": [
        *([], None, {}, "", [None], [7]),
        *([text] for text in (UUID, UUID.upper(), UUID.replace("-", ""), f"{{{UUID}}}", f"urn:uuid:{UUID}")),
        *(
            [text]
            for text in (f"URN:UUID:{UUID}", f"uuid:{UUID}", f" {UUID}", UUID[:-1], f"{{{UUID}", "0-" + UUID)
        ),
    ],
    "previous_attempts": [[], None, {}, [{}], [None], [[]], [{"previous_attempts": [{}]}], [{"x": DEEP}]],
    "exception": [
        *(
            None,
            {},
            [],
            "x",
            {"type_name": "E", "message": "m"},
            {"type_name": "E", "message": "m", "metadata": {}},
        ),
        *(
            {"type_name": "E", "message": "m", "metadata": {"a": value}}
            for value in (1, 1.5, True, None, "x", 10**30, 2**63, 2**64, math.nan, -math.inf, [], {})
        ),
        {"type_name": 1, "message": "m", "metadata": {}},
        {"type_name": "E", "message": None, "metadata": {}},
        {"type_name": "E", "message": "m", "metadata": {}, "unknown": DEEP},
    ],
    "metadata": [None, {}, [], "x", 0, False, {"scalars": {"a": 10**30}}, {"unknown": DEEP}],
    "unknown": [None, DEEP, math.nan, 10**30, "x"],
}


@pytest.mark.parametrize("field", V2_FIELDS)
def test_fields_of_log_files(field: str, same: Same) -> None:
    record = json.dumps(test_log_records.record())
    taken = []
    for value in V2_FIELDS[field]:
        document: dict[str, Any] = {"version": 2, "records": [], field: value}
        if field == "extended":
            # Said twice, so that the file begins as it must.
            taken.append(same(b'{"extended":true,' + json.dumps(document)[1:].encode(), None))
            continue
        taken.append(same(b'{"extended":true,' + json.dumps(document)[1:].encode(), None))
        if field not in ("version", "records"):
            taken.append(same(f"{record}\n###EXTRA###\n{json.dumps({field: value})}".encode(), None))
    assert any(taken)


EXTRAS = ["null", "[]", "{}", "0", '""', "false", "0.0", "[1]", "5", '"x"', "true", " {} ", "\n", " ", "NaN"]
ENDS = ["\n", "\r\n", "\r", " \n\n", "\u00a0\n", "\n\x0b\n", "\n\x1c\n", "\u2028\n"]


def test_what_follows_streamed_records(same: Same) -> None:
    record = json.dumps(test_log_records.record())
    taken = [same(f"{record}\n###EXTRA###\n{extra}".encode(), None) for extra in EXTRAS]
    taken += [same(f"###EXTRA###{rest}".encode(), None) for rest in ("", "\n", "x\n{}", "\r\nnull", "\r{}")]
    taken += [same(f"{record}{end}{record}{end}".encode(), None) for end in ENDS]
    assert any(taken)
    assert not all(taken)


SECTION = test_outcome.task_metadata(1, [], caveats=0)
QUANTUM_FIELDS: dict[str, list[Any]] = {
    "endMaxResidentSetSize": NUMBERS,
    "startCpuTime": NUMBERS,
    "endCpuTime": NUMBERS,
    "prepUtc": TIMES,
    "endUtc": TIMES,
    "caveats": NUMBERS,
}


def with_value(name: str, value: Any, as_array: bool) -> bytes:
    document = copy.deepcopy(SECTION)
    quantum = document["metadata"]["quantum"]
    for part in quantum.values():
        part.pop(name, None)
    quantum["arrays" if as_array else "scalars"][name] = [value] if as_array else value
    return json.dumps(document).encode()


@pytest.mark.parametrize("name", QUANTUM_FIELDS)
def test_fields_of_the_quantum_section(name: str, same: Same) -> None:
    taken = []
    # What null is, another test tells.
    for value in [v for v in QUANTUM_FIELDS[name] if v is not None]:
        for as_array in (False, True):
            data = with_value(name, value, as_array)
            try:
                taken.append(same(None, data))
            except (OverflowError, TypeError, ValueError):
                # The reference stumbles over it; it must be held.
                with pytest.raises(outcome.MetadataError):
                    outcome.judge(test_outcome.QUANTUM, None, data)
    assert any(taken)
    assert not all(taken)


def nested(levels: int, inner: str) -> str:
    return '{"metadata":{"a":' * levels + inner + "}}" * levels


BRACKETS = ["[" * n + "]" * n for n in range(195, 204)]
INNERMOST = ["{}", '{"scalars":{}}', '{"scalars":{"a":1}}', '{"arrays":{"a":[]}}', '{"arrays":{"a":[1]}}']


def readable(found: outcome.Outcome) -> None:
    """Check that the reference reads what goes into a graph."""
    provenance = pytest.importorskip("lsst.pipe.base.quantum_graph._provenance")
    provenance.ProvenanceLogRecordsModel.model_validate_json(b"".join(found.logs_block()))
    provenance.ProvenanceTaskMetadataModel.model_validate_json(b"".join(found.metadata_block()))


def test_no_block_is_deeper_than_its_readers_go() -> None:
    reference = pytest.importorskip("lsst.pipe.base").TaskMetadata
    taken, refused = 0, 0
    first = json.dumps(test_log_records.record())
    documents = [nested(n, inner) for n in range(94, 103) for inner in INNERMOST]
    documents += [f'{{"unknown":{text}}}' for text in BRACKETS]
    for text in documents:
        logs = [
            f'{{"extended":true,"version":2,"records":[],"metadata":{text}}}',
            f'{{"extended":true,"version":2,"records":[],"previous_attempts":[{{"metadata":{text}}}]}}',
            f'{{"extended":true,"version":2,"records":[],"previous_attempts":[{{"exception":{text}}}]}}',
            f"[{first[:-1]}" + f',"unknown":{text}}}]',
            f"{first[:-1]}" + f',"unknown":{text}}}\n',
            f'{{"extended":true,"version":2,"unknown":{text}}}',
        ]
        for log, metadata in [*((log.encode(), None) for log in logs), (None, text.encode())]:
            try:
                found = outcome.judge(test_outcome.QUANTUM, log, metadata)
            except (outcome.LogError, outcome.MetadataError):
                refused += 1
                continue
            taken += 1
            readable(found)
            if metadata is not None:
                reference.model_validate_json(metadata)
    assert min(taken, refused) > 50


def test_nesting_is_counted_as_the_reference_counts() -> None:
    core = pytest.importorskip("pydantic_core")
    texts = [
        "[" * n + inner + "]" * n
        for n in range(197, 203)
        for inner in ("1", "[]", "{}", '"[[[["', "[ ]", '"\\"["')
    ]
    for text in [*texts, *('{"a":' * n + "[1]" + "}" * n for n in range(197, 202)), "1", "[]", '""']:
        try:
            core.from_json(text)
        except ValueError:
            with pytest.raises(ValueError, match="nested"):
                json_depth.check(text.encode())
        else:
            json_depth.check(text.encode())


def test_null_is_not_a_number_to_all_readers(same: Same) -> None:
    """The newest reference reads it so, and writes the constant."""
    document = copy.deepcopy(SECTION)
    quantum = document["metadata"]["quantum"]
    quantum["scalars"]["odd"], quantum["arrays"]["odds"] = None, [1.5, None]
    quantum["arrays"]["endCpuTime"] = [None]
    found = outcome.judge(test_outcome.QUANTUM, None, json.dumps(document).encode())
    readable(found)
    section = json.loads(b"".join(found.metadata_block()))["attempts"][0]["metadata"]["quantum"]
    assert math.isnan(section["scalars"]["odd"])
    assert section["arrays"]["odds"][0] == 1.5
    assert math.isnan(section["arrays"]["odds"][1])
    usage = found.attempts[-1].resource_usage
    assert usage is not None
    assert math.isnan(usage.run_time_cpu)
    log = {"extended": True, "version": 2, "metadata": document, "records": []}
    readable(outcome.judge(test_outcome.QUANTUM, json.dumps(log, separators=(",", ":")).encode(), None))


@pytest.mark.parametrize("name", ["caveats", "prepUtc", "endUtc", "initUtc", "outputs"])
def test_null_where_a_value_must_be_finite_is_refused(name: str) -> None:
    for as_array in (False, True):
        with pytest.raises(outcome.MetadataError):
            outcome.judge(test_outcome.QUANTUM, None, with_value(name, None, as_array))


def test_any_text_is_converted_as_the_reference_does() -> None:
    """Random changes of texts that are taken."""
    logging = pytest.importorskip("lsst.daf.butler.logging")
    dice = random.Random(7)
    cases = [
        ("levelno", lenient_values.integer, ["20", "1_000", "20.0", " -7 ", "+1_0.0"], "0123456789_.+- e"),
        (
            "asctime",
            lenient_values.time,
            [
                "2026-01-01T00:00:00.5Z",
                "2026-01-01 10:20:30+01:00",
                "1800000000.5",
                "2026-01-01",
                "-5",
                "1.5E+2",
            ],
            "0123456789:-.,TZ+_ tzeE",
        ),
    ]
    for field, convert, texts, letters in cases:
        for _ in range(1500):
            text = dice.choice(texts)
            at = dice.randrange(len(text) + 1)
            text = text[:at] + dice.choice(letters) * dice.randrange(2) + text[at + dice.randrange(2) :]
            data = json.dumps(test_log_records.record(**{field: text}))
            try:
                theirs = getattr(logging.ButlerLogRecord.model_validate_json(data), field)
            except ValueError:
                with pytest.raises(ValueError, match=r"."):
                    convert(text)
            else:
                ours: Any = convert(text)
                assert ours == theirs or abs((ours - theirs).total_seconds()) < 2e-6, text


def test_large_logs_are_checked_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    times = [datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC) + datetime.timedelta(n) for n in range(40)]
    records = [
        test_log_records.record(message='},{"name": x' * n, lineno=n, asctime=time.isoformat())
        for n, time in enumerate(times)
    ]
    monkeypatch.setattr(log_records, "_PIECE", 700)
    odd = test_log_records.record(unknown=[{"a": 1}, {"b": 2}] * 80, levelno=" 20 ")
    for some in (records, [*records, odd, *records], [odd] * 5):
        for separators in ((",", ":"), (", ", ": "), (",\n", " :")):
            text = json.dumps(some, separators=separators).encode()
            ends = [datetime.datetime.fromisoformat(each["asctime"]) for each in (some[0], some[-1])]
            assert log_records.check_records(text) == (len(some), *ends)
            for broken in (
                text[:-1],
                text[:-40],
                text + b"x",
                text.replace(b"lineno", b"line", 1),
                b"{" + text[1:],
            ):
                with pytest.raises(test_log_records.INVALID):
                    log_records.check_records(broken)
            v2 = b'{"extended":true,"version":2,"records":' + text + b"}"
            assert bytes(log_records.parse(v2).records) == text


def test_a_large_log_is_in_memory_once() -> None:
    record = json.dumps(test_log_records.record(message="x" * 150)).encode()
    data = b'{"extended":true,"version":2,"records":[' + b",".join([record] * 60_000) + b"]}"
    builder = shard_builder.ShardBuilder(blocks.Codec(b"", 3), 8, "/no/file/is/needed")
    tracemalloc.start()
    try:
        block = builder.frame(outcome.judge(test_outcome.QUANTUM, data, None).logs_block())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Besides the file itself, which was there before; a million of such records are 430 MB.
    assert peak < 0.9 * len(data)
    expected = b'{"attempts":[' + data[len(b'{"extended":true,"version":2,"records":') : -1] + b"]}"
    assert blocks.Codec(b"", 3).decompress(block[8:]) == expected
