"""Deleting originals: many at a time where each takes long."""

from __future__ import annotations

import pathlib
import threading
import time
from collections.abc import Iterable
from typing import Any

from aggregator.storage import local_store, stores

from aggregator.graph_ingestion import originals


class SlowStore(local_store.LocalStore):
    """A directory on a slow file system; counts how many deletions are under way at a time."""

    __slots__ = ()
    deleted_at_once = 4
    seconds = 0.002
    n_now = n_most = 0
    lock = threading.Lock()

    def delete_many(self, keys: Iterable[str], unchanged_since: int | None = None) -> stores.Deletion:
        """Delete files slowly."""
        kind = type(self)
        with kind.lock:
            kind.n_now += 1
            kind.n_most = max(kind.n_most, kind.n_now)
        names = list(keys)
        time.sleep(kind.seconds * len(names))
        done = super().delete_many(names, unchanged_since)
        with kind.lock:
            kind.n_now -= 1
        return done


def files(directory: pathlib.Path, n: int) -> dict[str, list[originals.Original]]:
    """Make files, and return what tells of them."""
    made = []
    for number in range(n):
        key = f"run/log/{number // 10}/{number}.json"
        (directory / key).parent.mkdir(parents=True, exist_ok=True)
        (directory / key).write_bytes(b"{}")
        made.append(originals.Original(0, key, f"{number:032x}", "log"))
    return {"log": made}


def test_more_are_under_way_where_each_takes_long(tmp_path: pathlib.Path) -> None:
    held: Any = None
    made = files(tmp_path, 600)
    with originals.Originals(
        "run", [SlowStore(str(tmp_path))], (), held, time.time_ns() + 10**12
    ) as deleting:
        deleting.delete(made)
        deleting.wait()
        assert (deleting.n_deleted, deleting.n_failed, deleting.n_missing) == (600, 0, 0)
        assert deleting.remove_directories(lambda: None) == (61, [])
    assert SlowStore.n_most > 20
    assert not any(tmp_path.rglob("*.json"))
