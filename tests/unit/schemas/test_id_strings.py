"""Ids in JSON are replaced where they are strings of their own, and nowhere else."""

import json
import re
import uuid
from typing import Any

import numpy as np
import pytest
from aggregator.schemas.graphs import addresses, id_strings
from hypothesis import given
from hypothesis import strategies as st

_OLD = [uuid.UUID(int=7 * n) for n in (0, 1, 2, 1 << 60, 1 << 122, 0xABCDEF << 100)]
_NEW = {str(old): str(uuid.UUID(int=old.int + 1)) for old in _OLD}
_texts = st.sampled_from([*_NEW, *(f"x{old}" for old in _OLD), *(f'"{old}' for old in _OLD), "\\", '"', "-"])
_values = st.recursive(
    st.none() | st.integers() | _texts | st.builds(lambda a, b: a + b, _texts, _texts) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(_texts | st.text(), inner, max_size=5),
    max_leaves=30,
)


def _renew(ids: addresses.Ids) -> addresses.Ids:
    new = [_NEW.get(str(uuid.UUID(digits)), digits) for digits in addresses.hex_digits(ids)]
    return addresses.parse_ids(new) if new else np.zeros(0, addresses.ID_TYPE)


def _replaced(text: bytes) -> bytes:
    buffer = bytearray(text)
    id_strings.replace(buffer, _renew)
    return bytes(buffer)


def _expected(value: Any) -> Any:
    if isinstance(value, dict):
        return {_NEW.get(key, key): _expected(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_expected(each) for each in value]
    return _NEW.get(value, value) if isinstance(value, str) else value


@given(_values, st.sampled_from([(",", ":"), (", ", ": ")]))
def test_what_is_replaced_is_what_a_parser_takes_for_an_id(value: Any, separators: tuple[str, str]) -> None:
    text = json.dumps(value, ensure_ascii=False, separators=separators).encode("utf-8", "surrogatepass")
    if not id_strings.are_escaped(text):
        assert json.loads(_replaced(text).decode("utf-8", "surrogatepass")) == _expected(value)


@given(st.lists(_values, max_size=6))
def test_texts_can_be_joined(values: list[Any]) -> None:
    joined = b"\0".join(json.dumps(value).encode() for value in values)
    assert [json.loads(each) for each in _replaced(joined).split(b"\0") if each] == list(
        map(_expected, values)
    )


def test_capitals_are_read() -> None:
    old = str(_OLD[-1])
    assert _replaced(f'["{old.upper()}"]'.encode()) == f'["{_NEW[old]}"]'.encode()


@pytest.mark.parametrize("position", range(36))
def test_escaped_characters_of_an_id_are_told(position: int) -> None:
    old = str(_OLD[-1])
    escaped = f'"{old[:position]}\\u{ord(old[position]):04x}{old[position + 1 :]}"'
    assert json.loads(escaped) == old
    assert id_strings.are_escaped(escaped.encode())
    assert id_strings.are_escaped(re.sub("[a-f](?=[^u])", lambda m: m[0].upper(), escaped).encode())


def test_other_escapes_are_nothing_to_be_told_of() -> None:
    assert not id_strings.are_escaped(json.dumps("é\n\x1f\x7f☃").encode())
