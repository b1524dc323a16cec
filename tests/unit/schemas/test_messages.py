import collections.abc
import types
import typing
from typing import Any

import msgpack
import msgspec
import pytest
from aggregator.schemas import messages
from hypothesis import given
from hypothesis import strategies as st

TYPES = [
    messages.Setup,
    *typing.get_args(messages.Request),
    *typing.get_args(messages.Reply),
    messages.Logged,
]


def example(kind: Any) -> Any:
    """Return a value of a type, that is not the type's default."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is list:
        return [example(arguments[0])] * 2
    if origin is tuple:
        return (example(arguments[0]),) * 2
    if origin in (dict, collections.abc.Mapping):
        return {example(arguments[0]): example(arguments[1])}
    if origin is types.UnionType:
        return example(arguments[0])
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind(**{name: example(hint) for name, hint in typing.get_type_hints(kind).items()})
    return {int: 1 << 40, str: "ü\0", bytes: b"\xff\0\x01", bool: True, float: 1.5}[kind]


def document(kind: Any) -> Any:
    """Return the document in a message."""
    return msgpack.unpackb(messages.pack(example(kind)), strict_map_key=False)


def ids(kind: Any) -> str:
    name: str = kind.__name__
    return name


@pytest.mark.parametrize("kind", TYPES, ids=ids)
def test_a_message_arrives_as_it_was_sent(kind: Any) -> None:
    message = example(kind)
    found = messages.unpack(messages.pack(message))
    assert type(found) is kind
    assert found == message
    for name, hint in typing.get_type_hints(kind).items():
        if type(None) in typing.get_args(hint):
            empty = msgspec.structs.replace(message, **{name: None})
            assert messages.unpack(messages.pack(empty)) == empty


@pytest.mark.parametrize("kind", TYPES, ids=ids)
def test_a_message_with_wrong_values_is_refused(kind: Any) -> None:
    right = document(kind)
    for name in right.keys() - {"type"}:
        for wrong in (None, 1.5, "text", b"bytes", 7, [None], {"a": None}):
            changed = {**right, name: wrong}
            try:
                message = messages.unpack(msgpack.packb(changed))
            except ValueError:
                continue
            if isinstance(getattr(message, name), msgspec.Struct):
                # All its fields have defaults, and those of newer versions are ignored.
                assert isinstance(wrong, dict)
                continue
            # A value of another type that is right there.
            assert getattr(message, name) == wrong
            assert type(getattr(message, name)) is type(wrong)
        with pytest.raises(ValueError, match="not a message"):
            messages.unpack(msgpack.packb({**right, name: [[[1.5]]]}))


@pytest.mark.parametrize("kind", TYPES, ids=ids)
def test_a_message_that_is_cut_off_is_refused(kind: Any) -> None:
    packed = messages.pack(example(kind))
    for size in range(len(packed)):
        with pytest.raises(ValueError, match="not a message"):
            messages.unpack(packed[:size])
    with pytest.raises(ValueError, match="not a message"):
        messages.unpack(packed + b"\0")


def test_what_is_no_message_is_refused() -> None:
    for value in (None, 7, [], {}, {"type": "Other"}, {"type": 7}, {"type": "ScanShard"}, {7: 8}):
        with pytest.raises(ValueError, match="not a message"):
            messages.unpack(msgpack.packb(value))
    # A map whose key is a list.
    with pytest.raises(ValueError, match="not a message"):
        messages.unpack(b"\x81\x90\x01")


@given(st.one_of(st.binary(), st.builds(msgpack.packb, st.dictionaries(st.text(), st.integers(0, 9)))))
def test_any_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a message"):
        messages.unpack(data)


@given(st.sampled_from(TYPES), st.data())
def test_damaged_bytes_are_refused_or_understood(kind: Any, data: st.DataObject) -> None:
    packed = bytearray(messages.pack(example(kind)))
    place = data.draw(st.integers(0, len(packed) - 1))
    packed[place] ^= data.draw(st.integers(1, 255))
    try:
        found = messages.unpack(bytes(packed))
    except ValueError:
        return
    assert type(found) in TYPES
