"""Datasets that are there stay, whoever has written them, and whenever."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from aggregator.stages import keeping_butler
from aggregator.storage import errors


class Written:
    """What a butler knows of one dataset.

    Parameters
    ----------
    looks
        What looks find, one after the other.
    fails
        Whether writing fails.
    """

    def __init__(self, looks: list[bool], *, fails: bool) -> None:
        self.n_put = 0
        self._looks, self._fails = iter(looks), fails
        self.is_there = self.get = self.close = lambda *_: None

    def is_written(self, dataset_type: str, ids: Mapping[str, Any]) -> bool:
        return next(self._looks)

    def put(self, item: Any, dataset_type: str, ids: Mapping[str, Any]) -> None:
        self.n_put += 1
        if self._fails:
            raise errors.ConflictError("somebody was faster")


@pytest.mark.parametrize(
    ("looks", "fails", "n_put"), [([True], False, 0), ([False], False, 1), ([False, True], True, 1)]
)
def test_what_is_there_stays(looks: list[bool], fails: bool, n_put: int) -> None:
    butler = Written(looks, fails=fails)
    keeping_butler.KeepingButler(butler).put(1, "image", {})  # type: ignore[arg-type]
    assert butler.n_put == n_put


def test_what_is_not_there_has_failed() -> None:
    butler = Written([False, False], fails=True)
    with pytest.raises(errors.ConflictError):
        keeping_butler.KeepingButler(butler).put(1, "image", {})  # type: ignore[arg-type]
