"""What happens to files after an execution: crashes, deletions, other layouts."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Callable
from typing import Any


def rewrite(path: pathlib.Path, text: str) -> None:
    """Replace a file by a new one (other names of the old one keep its content)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(text)
    os.replace(temporary, path)


def edit_metadata(path: pathlib.Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the content of a metadata file."""
    content = json.loads(path.read_text())
    change(content)
    rewrite(path, json.dumps(content, separators=(",", ":")))


def without_outputs(content: dict[str, Any]) -> None:
    """Forget which outputs were written."""
    del content["metadata"]["quantum"]["arrays"]["outputs"]


def without_quantum(content: dict[str, Any]) -> None:
    """Forget everything that the executor wrote."""
    del content["metadata"]["quantum"]


def without_caveats(content: dict[str, Any]) -> None:
    """Forget the caveats."""
    del content["metadata"]["quantum"]["scalars"]["caveats"]


def _full(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    optional = ("funcName", "exc_info")
    return [{**record, **{name: record.get(name) for name in optional}} for record in records]


def as_list(path: pathlib.Path) -> None:
    """Turn a log into the first layout: a list of records."""
    rewrite(path, json.dumps(_full(json.loads(path.read_text())["records"])))


def as_stream(path: pathlib.Path, extra: dict[str, Any] | None) -> None:
    """Turn a log into the streaming layout, with blank lines."""
    records = _full(json.loads(path.read_text())["records"])
    text = "\n\n".join(json.dumps(record) for record in records) + "\n"
    if extra is not None:
        text += "###EXTRA###\n" + json.dumps(extra)
    rewrite(path, text)


def without_extra(path: pathlib.Path) -> None:
    """Leave the records only, in the second layout."""
    records = json.loads(path.read_text())["records"]
    content = {"extended": True, "version": 2, "records": records}
    rewrite(path, json.dumps(content, separators=(",", ":")))
