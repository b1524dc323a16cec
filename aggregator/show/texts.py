"""What `aggregator show` tells, as lines of text made from its documents."""

import datetime
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

from aggregator.reading import data_ids
from aggregator.schemas.execution import statuses

_LONGEST_MESSAGE = 300
"""Characters of an exception's message, where others are shown as well."""

_LONGEST_VALUE = 500
"""Characters of a value of metadata."""


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], right: str = "") -> list[str]:
    """Return an aligned table.

    Parameters
    ----------
    headings
        Titles of the columns.
    rows
        Cells.
    right
        Letters of the columns that are aligned right: "r"; others "l", or nothing.
    """
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    sides = right.ljust(len(widths), "l")
    lines = []
    for cells in (headings, *rows):
        padded = (
            cell.rjust(width) if side == "r" else cell.ljust(width)
            for cell, width, side in zip(cells, widths, sides, strict=True)
        )
        lines.append("  ".join(padded).rstrip())
    return lines


def duration(seconds: float | None) -> str:
    """Return a duration as people say it."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def size(n_bytes: float | None) -> str:
    """Return a number of bytes as people say it."""
    if n_bytes is None or not math.isfinite(n_bytes):
        return "-"
    units = ["B", "kB", "MB", "GB", "TB"]
    while n_bytes >= 1000 and len(units) > 1:
        n_bytes /= 1000
        del units[0]
    return f"{n_bytes:.0f} B" if units[0] == "B" else f"{n_bytes:.1f} {units[0]}"


def instant(text: str | None) -> str:
    """Return a time in UTC, to the second; what is no time stays as it is."""
    try:
        time = datetime.datetime.fromisoformat(text or "")
    except ValueError:
        return text or "-"
    if time.tzinfo is not None:
        time = time.astimezone(datetime.UTC).replace(tzinfo=None)
    return time.isoformat(timespec="seconds") + "Z"


def summary(document: dict[str, Any]) -> Iterator[str]:
    """Return what is in a graph."""
    built = document["built"]
    yield f"Graph     {document['graph']} ({size(document['graph_size'])})"
    chain = f", in chain {document['output']}" if document["output"] else ""
    yield f"Run       {document['run']}{chain}"
    yield f"Inputs    {', '.join(document['inputs']) or '-'}"
    command = shortened(str(built["command"] or "-"), _LONGEST_MESSAGE)
    yield f"Built     {str(built['time'] or '-')[:19]} (local time) by {built['user'] or '-'}: {command}"
    for each in document.get("merged_from", ()):
        yield f"Merged    from {_merged_from(each)}"
    n_quanta = sum(task["total"] for task in document["tasks"])
    yield f"Contents  {n_quanta} quanta of {len(document['tasks'])} tasks, {document['datasets']} datasets"
    yield ""
    yield from _task_table(document["tasks"])
    legend = sorted(
        {name for task in document["tasks"] for each in task["caveats"] for name in each["caveats"]}
    )
    if legend:
        yield ""
        yield "Successes with caveats:"
    rows = [
        (task["task"], str(each["quanta"]), ", ".join(each["caveats"]))
        for task in document["tasks"]
        for each in task["caveats"]
    ]
    yield from (f"  {line}" for line in table(("Task", "Quanta", "Caveats"), rows, "lr") if rows)


def _merged_from(origin: dict[str, Any]) -> str:
    """Return where a graph was before."""
    # The output run comes first.
    run = f"run {origin['runs'][0]['source']} in " if origin["runs"] else ""
    part = origin.get("slice")
    text = f" ({part['n_quanta']} of its {part['n_all_quanta']} quanta)" if part else ""
    return f"{run}{origin['source']}{text}, {instant(origin['created'])}"


def _task_table(tasks: list[dict[str, Any]]) -> list[str]:
    shown = [
        (statuses.NAMES[status], title)
        for status, title in statuses.TITLES.items()
        if status not in statuses.RARE or any(task["quanta"][statuses.NAMES[status]] for task in tasks)
    ]
    headings = ["Task", *(title for _, title in shown), "Total", "Expected"]
    rows = []
    for task in tasks:
        counts = (task["quanta"][name] for name, _ in shown)
        rows.append([task["task"], *map(str, counts), str(task["total"]), str(task["expected"])])
    return table(headings, rows, "l" + "r" * (len(headings) - 1))


def node(document: dict[str, Any], limit: int | None) -> Iterator[str]:
    """Return a quantum, init quantum or dataset."""
    name = document.get("task") or document.get("dataset_type")
    yield f"{document['kind'].capitalize()} {document['id']}"
    if former := document.get("former_id"):
        yield f"  {'before':10}{former}"
    yield f"  {'task' if 'task' in document else 'type':10}{name}"
    if "data_id" in document:
        yield f"  {'data ID':10}{data_ids.text(document['data_id']) or '-'}"
    if document["kind"] == "dataset":
        yield f"  {'run':10}{document['run']}"
        origin = "input of the run" if document["producer"] is None else f"by {document['producer']}"
        yield f"  {'produced':10}{'yes' if document['produced'] else 'no'}, {origin}"
        yield from _ids("read by", {"": document["consumers"]}, limit)
        return
    if document["kind"] == "quantum":
        yield f"  {'status':10}{document['status']}{_n_attempts(document['attempts'])}"
        yield from _attempts(document["attempts"])
    for direction in ("inputs", "outputs"):
        ids_by_connection = {
            c: [ids] if isinstance(ids, str) else ids for c, ids in document[direction].items()
        }
        yield from _ids(direction, ids_by_connection, limit)


def _n_attempts(attempts: list[Any]) -> str:
    return f", {len(attempts)} attempt{'s' if len(attempts) > 1 else ''}" if attempts else ", never ran"


def _attempts(attempts: list[dict[str, Any]]) -> Iterator[str]:
    headings = ("Attempt", "Status", "Started (UTC)", "Prep", "Init", "Run", "Run CPU", "Memory", "Caveats")
    rows = []
    for each in attempts:
        usage = each["resource_usage"] or {}
        times = (duration(usage.get(f"{name}_time")) for name in ("prep", "init", "run"))
        rows.append(
            (
                str(each["attempt"]),
                each["status"],
                instant(usage.get("start")),
                *times,
                duration(usage.get("run_time_cpu")),
                size(usage.get("memory")),
                ", ".join(each["caveats"] or ()) or "-",
            )
        )
    yield from (f"  {line}" for line in table(headings, rows, "rllrrrrr") if rows)
    for each in attempts:
        if each["exception"]:
            yield f"  attempt {each['attempt']} raised {exception(each['exception'], None)}"
            for name, value in each["exception"]["metadata"].items():
                yield f"    {name}: {value}"


def exception(document: dict[str, Any], longest: int | None = _LONGEST_MESSAGE) -> str:
    """Return an exception as one line, or in full."""
    message = document["message"]
    if longest is not None:
        message = shortened(" ".join(message.split()), longest)
    return f"{document['type_name']}: {message}"


def shortened(text: str, longest: int) -> str:
    """Return a text, cut off if it is too long."""
    return text if len(text) <= longest else text[:longest] + f"... ({len(text)} characters)"


def _ids(title: str, ids: dict[str, list[str]], limit: int | None) -> Iterator[str]:
    rows = [(connection, each) for connection, ids_of_connection in ids.items() for each in ids_of_connection]
    shown = rows[:limit]
    yield f"  {title} ({len(rows)})"
    yield from (f"    {line}" for line in table(("", ""), shown)[1:])
    if len(shown) < len(rows):
        yield f"    ... and {len(rows) - len(shown)} more; --limit 0 shows all"


def brief_table(documents: Sequence[dict[str, Any]], depth: bool = False) -> list[str]:
    """Return a line for each of some nodes."""
    rows = []
    for each in documents:
        cells = [each["kind"], each["name"], each["state"], data_ids.text(each["data_id"]) or "-", each["id"]]
        rows.append([str(each["depth"]), *cells] if depth else cells)
    headings = ["Kind", "Task or type", "State", "Data ID", "Id"]
    return table(["Depth", *headings] if depth else headings, rows, "r" if depth else "")


def failure(document: dict[str, Any]) -> Iterator[str]:
    """Return something that failed: what, why, and where its log is."""
    what = f"{document['state']:<16}{document['name']}  {data_ids.text(document['data_id'])}"
    yield f"{what}  {document['id']}"
    if document["exception"]:
        yield f"    {exception(document['exception'])}"
    elif document["state"] == "ABORTED_SUCCESS":
        yield "    its metadata tells of a success, but the log is missing"
    elif document["state"] != "BLOCKED":
        yield "    no exception on record"
    if document["attempts"] > 1:
        yield f"    {document['attempts']} attempts"
    if document["cause"]:
        yield f"    {_caused(document['cause'])}"
    elif document["state"] == "BLOCKED":
        yield "    no failure above it is on record"
    if document["log"] and document["log"]["records"] is not None:
        yield from _log_place(document["log"])


def _caused(cause: dict[str, Any]) -> str:
    why = f": {exception(cause['exception'])}" if cause["exception"] else ""
    return (
        f"because of {cause['state']} {cause['name']}  {data_ids.text(cause['data_id'])}  {cause['id']}{why}"
    )


def _log_place(log: dict[str, Any]) -> Iterator[str]:
    if log["records"] is None:
        yield "    log: none"
        return
    yield f"    log: {log['dataset_id']}, {log['records']} records"
    if last := log["last_error"]:
        message = shortened(" ".join(last["message"].split()), _LONGEST_MESSAGE)
        yield f"    last error: {instant(last['asctime'])} {last['pathname']}:{last['lineno']}: {message}"


def explained(document: dict[str, Any]) -> Iterator[str]:
    """Return what happened to a dataset."""
    dataset, quantum = document["dataset"], document["quantum"]
    yield f"{dataset['name']}  {data_ids.text(dataset['data_id'])}  {dataset['id']}"
    yield f"  {document['outcome']}: {document['reason']}"
    if quantum:
        state = f": {quantum['state']}" if quantum["state"] else ""
        text = data_ids.text(quantum["data_id"])
        yield f"  {quantum['kind']} {quantum['name']}  {text}  {quantum['id']}{state}"
    if document["exception"]:
        yield f"    {exception(document['exception'])}"
    if document["cause"]:
        yield f"  {_caused(document['cause'])}"
    if document["log"]:
        yield from _log_place(document["log"])


def log_record(document: dict[str, Any]) -> Iterator[str]:
    """Return a log record, in as many lines as it has."""
    head = f"{document['asctime']} {document['levelname']:<8} {document['name']}"
    yield f"{head} ({document['filename']}:{document['lineno']}): {document['message']}"
    if document["exc_info"]:
        yield from (f"    {line}" for line in document["exc_info"].splitlines())


def metadata(document: dict[str, Any], indent: str = "") -> Iterator[str]:
    """Return task metadata as indented lines."""
    for name, value in itertools.chain(document["scalars"].items(), document["arrays"].items()):
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        yield f"{indent}{name}: {shortened(text, _LONGEST_VALUE)}"
    for name, inner in document["metadata"].items():
        yield f"{indent}{name}:"
        yield from metadata(inner, indent + "  ")


def more(limit: int, what: str) -> str:
    """Return the note that a list was cut off."""
    return f"... there are more than these {limit} {what}; --limit N shows more, --limit 0 all"
