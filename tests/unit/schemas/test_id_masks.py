"""Masks of ids: bijections that keep times, and are their own inverses (transfer.md section 7.5)."""

import uuid

import numpy as np
from aggregator.schemas.graphs import addresses, id_masks
from hypothesis import given
from hypothesis import strategies as st

_NAMES = st.tuples(st.text(), st.text(), st.text())
_IDS = st.lists(st.binary(min_size=16, max_size=16), unique=True, max_size=40)


def _ids(some: list[bytes], version: int) -> addresses.Ids:
    made = [uuid.UUID(bytes=each, version=version if version < 6 else 4) for each in some]
    changed = [u.bytes[:6] + bytes([version << 4 | u.bytes[6] & 15]) + u.bytes[7:] for u in made]
    return np.frombuffer(b"".join(changed), dtype=addresses.ID_TYPE)


@given(_NAMES, _IDS, st.sampled_from([4, 7]))
def test_a_mask_is_a_bijection_that_keeps_time_version_and_variant(
    names: tuple[str, str, str], some: list[bytes], version: int
) -> None:
    old = _ids(some, version)
    mask = id_masks.derive(*names)
    new = id_masks.apply(mask, old)
    assert len(set(addresses.hex_digits(new))) == len(set(addresses.hex_digits(old)))
    assert (id_masks.as_rows(new)[:, :6] == id_masks.as_rows(old)[:, :6]).all()
    renewed = [uuid.UUID(digits) for digits in addresses.hex_digits(new)]
    assert all(each.variant == uuid.RFC_4122 and each.version == version for each in renewed)
    assert (id_masks.apply(mask, new) == old).all()


@given(_NAMES)
def test_a_mask_depends_on_the_names_alone(names: tuple[str, str, str]) -> None:
    assert id_masks.derive(*names) == id_masks.derive(*names) != id_masks.NONE


def test_names_that_look_alike_when_joined_have_other_masks() -> None:
    triples = [("ab", "c", ""), ("a", "bc", ""), ("a", "b", "c"), ("", "ab", "c"), ("ab", "", "c")]
    assert len({id_masks.derive(*names) for names in triples}) == len(triples)


def test_the_mask_of_these_names_never_changes() -> None:
    # Ids that were given once must be found again by later versions.
    assert id_masks.derive("u/a/run", "prod/run", "").hex() == "00000000000009cb10d5cf207e0819e7"


@given(_IDS, st.sampled_from([1, 3, 5]))
def test_other_versions_stay(some: list[bytes], version: int) -> None:
    old = _ids(some, version)
    assert (id_masks.apply(id_masks.derive("a", "b"), old) == old).all()
