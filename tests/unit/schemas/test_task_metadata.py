import json
import math
from typing import Any

import msgspec
import pytest
from aggregator.schemas.execution import attempt_metadata, json_depth, task_metadata
from hypothesis import given
from hypothesis import strategies as st

INVALID = (ValueError, msgspec.MsgspecError, RecursionError)

ACCEPTED = [
    "{}",
    ' {"scalars": {}}\n',
    '{"scalars":{"a":1,"b":1.5,"c":true,"d":"x","e":""}}',
    '{"scalars":{"a":NaN,"b":Infinity,"c":-Infinity}}',
    '{"arrays":{"a":[],"b":[1,2],"c":[1.5,NaN],"d":[true,false],"e":["x","NaN"],"f":[1,2.5],"g":[NaN,3]}}',
    '{"metadata":{"a":{"metadata":{"b":{"scalars":{"c":-Infinity}}}}}}',
    '{"scalars":{"big":123456789012345678901234567890,"huge":1e400,"tiny":1e-400}}',
    '{"other":[null],"scalars":{"a":1}}',
    '{"scalars":{"a":"\\ud83d\\ude00 ü 😀"},"arrays":{"x":[NaN]}}',
    '{"scalars":{},"scalars":{"a":1}}',
]
REJECTED = [
    "",
    " ",
    "null",
    "[]",
    "7",
    "{",
    '{"scalars":{"a":1}',
    '{"scalars":{"a":1}}}',
    '{"scalars":{"a":null}}',
    '{"scalars":{"a":[]}}',
    '{"scalars":{"a":{}}}',
    '{"scalars":null}',
    '{"scalars":[]}',
    '{"arrays":{"a":1}}',
    '{"arrays":{"a":[null]}}',
    '{"arrays":{"a":[NaN,null]}}',
    '{"arrays":{"a":[[1]]}}',
    '{"arrays":{"a":[1,"x"]}}',
    '{"arrays":{"a":[1,true]}}',
    '{"arrays":{"a":[true,"x"]}}',
    '{"arrays":{"a":[NaN,"x"]}}',
    '{"metadata":{"a":{"arrays":{"b":["x",1.5]}}}}',
    '{"metadata":{"a":null}}',
    '{"metadata":{"a":1}}',
    '{"scalars":{"a":nan}}',
    '{"scalars":{"a":"\\ud83d"}}',
    '{"scalars":{"a":"\\ude00\\ud83d"}}',
    '{"other":"\\uDE00"}',
    '{"scalars":{"a":NaN},"other":"\\ud83d"}',
    "\ufeff{}",
    '{"scalars":{"a":"\x01"}}',
    '{"scalars":{"a":01}}',
    "{'scalars':{}}",
]
REJECTED_BYTES = [
    b'{"scalars":{"a":"\xff"}}',
    b'{"other":"\xff"}',
    b'{"scalars":{"a":NaN,"b":"\xc3"}}',
    '{"scalars":{"a":"é"}}'.encode("latin-1"),
    '{"scalars":{}}'.encode("utf-16-le"),
    '{"scalars":{}}'.encode("utf-16"),
    '{"scalars":{"a":NaN}}'.encode("utf-32-be"),
    b'\0{"scalars":{}}',
]


def builtins(metadata: task_metadata.TaskMetadata) -> Any:
    return msgspec.to_builtins(metadata)


def same(one: Any, other: Any) -> bool:
    """Compare documents; NaN is equal to NaN."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def test_every_form_is_read_and_others_are_refused() -> None:
    for text in ACCEPTED:
        found = builtins(task_metadata.parse(text.encode()))
        wanted = json.loads(text)
        assert same(found, {name: wanted.get(name, {}) for name in found} | nested(found, wanted)), text
    for data in [*map(str.encode, REJECTED), *REJECTED_BYTES]:
        with pytest.raises(INVALID):
            task_metadata.parse(data)


def nested(found: Any, wanted: Any) -> dict[str, Any]:
    """Return the nested metadata of a document with all keys filled in."""
    return {
        "metadata": {
            name: {key: w.get(key, {}) for key in f} | nested(f, w)
            for name, f in found["metadata"].items()
            for w in [wanted["metadata"][name]]
        }
    }


def test_what_is_no_unicode_is_refused_wherever_it_is() -> None:
    inner = b'{"scalars":{"@":"@"},"arrays":{"@":["@","@"]},"metadata":{"@":{"scalars":{"@":1}}}}'
    for data in (inner, b'{"metadata":{"a":%b}}' % inner, b'{"other":"@","scalars":{"a":null,"@":NaN}}'):
        task_metadata.parse_for_graph(data)
        for place in [i for i, byte in enumerate(data) if byte == ord("@")]:
            for wrong in (b"\xff", b"\xc3", b"\xed\xa0\x80", b"\\ud83d", b"\\uDC00"):
                with pytest.raises(INVALID):
                    task_metadata.parse_for_graph(data[:place] + wrong + data[place + 1 :])


def test_graphs_get_nan_for_null() -> None:
    for data, wanted in [
        (b'{"scalars":{"null":"null"}}', b'{"scalars":{"null":"null"}}'),
        (b'{ "scalars":{"a":NaN}}', b'{ "scalars":{"a":NaN}}'),
        (
            b'{"scalars": {"a":null},"arrays":{"b":[1.5,null]}}',
            b'{"scalars":{"a":NaN},"arrays":{"b":[1.5,NaN]}}',
        ),
        (b'{"metadata": {"m":{"scalars":{"a":null}}}}', b'{"metadata":{"m":{"scalars":{"a":NaN}}}}'),
    ]:
        text, metadata = task_metadata.parse_for_graph(data)
        assert text == wanted
        assert same(builtins(metadata), builtins(task_metadata.parse(wanted)))


scalars = st.one_of(st.floats(), st.integers(), st.booleans(), st.text())
arrays = st.one_of(
    *(st.lists(kind, max_size=4) for kind in (st.floats(), st.integers(), st.booleans(), st.text()))
)
documents = st.recursive(
    st.fixed_dictionaries(
        {
            "scalars": st.dictionaries(st.text(max_size=5), scalars),
            "arrays": st.dictionaries(st.text(max_size=5), arrays),
        }
    ),
    lambda inner: st.fixed_dictionaries(
        {
            "scalars": st.dictionaries(st.text(max_size=5), scalars, max_size=3),
            "arrays": st.dictionaries(st.text(max_size=5), arrays, max_size=3),
            "metadata": st.dictionaries(st.text(max_size=5), inner, max_size=3),
        }
    ),
    max_leaves=5,
)


@given(documents, st.booleans())
def test_any_metadata_is_read(document: Any, ascii_only: bool) -> None:
    data = json.dumps(document, ensure_ascii=ascii_only).encode()
    found = task_metadata.parse(data)
    assert same(strip(builtins(found)), strip(document))


def strip(document: Any) -> Any:
    """Return metadata without empty parts."""
    return {
        name: {key: strip(value) for key, value in part.items()} if name == "metadata" else part
        for name, part in document.items()
        if part
    }


def quantum(**changes: Any) -> task_metadata.TaskMetadata:
    """Return metadata with a quantum section; values in lists are arrays, None takes a name out."""
    values: dict[str, Any] = {
        "prepUtc": ["2026-11-22T01:26:31.000000+00:00"],
        "initUtc": ["2026-11-22T01:26:32.250000+00:00"],
        "startUtc": ["2026-11-22T01:26:34.000000+00:00"],
        "endUtc": ["2026-11-22T01:26:38.500000+00:00"],
        "startCpuTime": [1.5],
        "endCpuTime": [4.0],
        "endMaxResidentSetSize": [1000],
        **changes,
    }
    values = {name: value for name, value in values.items() if value is not None}
    scalars = {name: value for name, value in values.items() if not isinstance(value, list | dict)}
    arrays = {name: value for name, value in values.items() if isinstance(value, list)}
    inner = {name: value for name, value in values.items() if isinstance(value, dict)}
    section = {"scalars": scalars, "arrays": arrays, "metadata": inner}
    return task_metadata.convert({"metadata": {"quantum": section}})


USAGE: list[tuple[dict[str, Any], tuple[Any, ...]]] = [
    ({}, (1000.0, "2026-11-22T01:26:31Z", 1.25, 1.75, 4.5, 2.5)),
    ({"initUtc": None, "startUtc": None}, (1000.0, "2026-11-22T01:26:31Z", 7.5, 0.0, 0.0, 2.5)),
    ({"startUtc": None}, (1000.0, "2026-11-22T01:26:31Z", 1.25, 6.25, 0.0, 2.5)),
    ({"startCpuTime": None}, (1000.0, "2026-11-22T01:26:31Z", 1.25, 1.75, 4.5, 0.0)),
    ({"endCpuTime": []}, (1000.0, "2026-11-22T01:26:31Z", 1.25, 1.75, 4.5, 0.0)),
    ({"endMaxResidentSetSize": 3.5}, (3.5, "2026-11-22T01:26:31Z", 1.25, 1.75, 4.5, 2.5)),
    ({"endMaxResidentSetSize": [1, 2, 7]}, (7.0, "2026-11-22T01:26:31Z", 1.25, 1.75, 4.5, 2.5)),
    ({"prepUtc": "2026-11-22T01:26:30.5Z"}, (1000.0, "2026-11-22T01:26:30.500000Z", 1.75, 1.75, 4.5, 2.5)),
    ({"endCpuTime": [1]}, (1000.0, "2026-11-22T01:26:31Z", 1.25, 1.75, 4.5, -0.5)),
]


def test_resource_usage_is_derived_from_stages() -> None:
    for changes, wanted in USAGE:
        found = attempt_metadata.resource_usage(quantum(**changes))
        assert found is not None
        assert msgspec.structs.astuple(found) == wanted, changes
    assert attempt_metadata.resource_usage(task_metadata.TaskMetadata()) is None
    naive = {f"{stage}Utc": ["2026-11-22T01:26:31.000001"] for stage in ("prep", "init", "start", "end")}
    found = attempt_metadata.resource_usage(quantum(**naive))
    assert found is not None
    assert found.start == "2026-11-22T01:26:31.000001"


@pytest.mark.parametrize(
    "changes",
    [
        {"endUtc": None},
        {"prepUtc": None},
        {"endMaxResidentSetSize": None},
        {"endUtc": []},
        {"endUtc": [5]},
        {"endUtc": "soon"},
        {"prepUtc": {"scalars": {}}},
        {"endMaxResidentSetSize": "much"},
        {"startCpuTime": "x"},
        {"startUtc": "2026-11-22T01:26:31"},
    ],
)
def test_a_quantum_section_without_its_times_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        attempt_metadata.resource_usage(quantum(**changes))


def test_a_quantum_that_is_no_section_is_refused() -> None:
    for document in ({"scalars": {"quantum": 1}}, {"arrays": {"quantum": [1]}}):
        metadata = task_metadata.convert(document)
        for derive in (
            attempt_metadata.resource_usage,
            attempt_metadata.caveats,
            attempt_metadata.listed_outputs,
        ):
            with pytest.raises(ValueError, match="not a section"):
                derive(metadata)


CAVEATS = [
    (0, 0),
    (67, 67),
    (127, 127),
    (-1, 127),
    (4.0, 4),
    ("12", 12),
    (True, 1),
    ([5, 9], 9),
    (None, None),
    ([], None),
]


@pytest.mark.parametrize(("value", "bits"), CAVEATS)
def test_caveats_are_bits(value: Any, bits: int | None) -> None:
    assert attempt_metadata.caveats(quantum(caveats=value)) == bits


@pytest.mark.parametrize("value", [128, 255, -129, 1 << 70, "x", "1.5", math.inf, math.nan, {"scalars": {}}])
def test_unknown_caveats_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        attempt_metadata.caveats(quantum(caveats=value))


def test_caveats_without_a_quantum_section_are_unknown() -> None:
    assert attempt_metadata.caveats(task_metadata.TaskMetadata()) is None


def annotated(failure: Any) -> task_metadata.TaskMetadata:
    return task_metadata.convert({"metadata": {"clean": {"metadata": {"failure": failure}}}})


def test_the_failure_of_a_success_is_found() -> None:
    scalars = {"type": "E", "message": "went wrong"}
    content = {
        "scalars": {"a": 1, "b": math.inf, "c": "x", "d": True},
        "arrays": {"e": [1]},
        "metadata": {"f": {}},
    }
    for failure, wanted in [
        ({"scalars": scalars}, ("E", "went wrong", {})),
        ({"scalars": scalars, "metadata": {"metadata": content}}, ("E", "went wrong", content["scalars"])),
        ({"arrays": {"type": ["D", "E"], "message": ["m"]}}, ("E", "m", {})),
    ]:
        found = attempt_metadata.failure(annotated(failure), "clean")
        assert found is not None
        assert (found.type_name, found.message, found.metadata) == wanted
    for failure in (
        {},
        {"scalars": {"type": "E"}},
        {"scalars": {"message": "m"}},
        {"arrays": {"type": [], "message": ["m"]}},
    ):
        assert attempt_metadata.failure(annotated(failure), "clean") is None
    assert attempt_metadata.failure(annotated({"scalars": scalars}), "measure") is None
    for failure in ({"scalars": {"type": 1, "message": "m"}}, {"scalars": {**scalars, "metadata": 1}}):
        with pytest.raises(ValueError, match=r"."):
            attempt_metadata.failure(annotated(failure), "clean")


def test_listed_outputs_are_texts() -> None:
    assert attempt_metadata.listed_outputs(quantum(outputs=["a", "b"])) == ["a", "b"]
    assert attempt_metadata.listed_outputs(quantum(outputs=[])) == []
    assert attempt_metadata.listed_outputs(quantum(outputs="a")) == ["a"]
    assert attempt_metadata.listed_outputs(quantum()) is None
    assert attempt_metadata.listed_outputs(task_metadata.TaskMetadata()) is None
    with pytest.raises(ValueError, match="not ids"):
        attempt_metadata.listed_outputs(quantum(outputs=[1]))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 1000])
def test_large_texts_are_checked_in_pieces(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(task_metadata, "_CHECKED_AT_ONCE", size)
    task_metadata.check_text(b"plain")
    whole = "ü☃😀 and so on ü☃😀".encode()
    task_metadata.check_text(whole)
    for damaged in (whole[:-1], whole + b"\xff", b"\xed\xa0\xbd" + whole, whole[:8] + whole[9:]):
        with pytest.raises(UnicodeDecodeError):
            task_metadata.check_text(damaged)


def in_each_other(n_sets: int) -> bytes:
    """Return metadata with sets in each other, each two levels deeper, and a value in the last one."""
    return b'{"metadata":{"a":' * n_sets + b'{"scalars":{"x":1}}' + b"}}" * n_sets


@pytest.mark.parametrize("outside", [0, 2, 20])
def test_metadata_are_as_deep_as_readers_of_graphs_take(outside: int) -> None:
    deepest = (200 - outside - 2) // 2
    text, parsed = task_metadata.parse_for_graph(in_each_other(deepest), outside)
    assert text == in_each_other(deepest)
    for _ in range(deepest):
        parsed = parsed.metadata["a"]
    assert parsed.scalars == {"x": 1}
    with pytest.raises(ValueError, match=f"nested more than {200 - outside} levels deep"):
        task_metadata.parse_for_graph(in_each_other(deepest + 1), outside)


def test_brackets_in_texts_and_empty_lists_are_no_levels() -> None:
    text = b'{"a\\"[[":"[[[\\\\","b":[[ ],{ }],"c":"{{{\\"{"}'
    json_depth.check(text, json_depth.LIMIT - 2)
    json_depth.check(b"", json_depth.LIMIT)
    with pytest.raises(ValueError, match="nested more than 1 levels deep"):
        json_depth.check(text, json_depth.LIMIT - 1)
