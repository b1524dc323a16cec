"""What an attempt's metadata tells of it: times, memory, caveats, outputs (execution-files.md section 1)."""

import datetime
import itertools
import re

import msgspec
from aggregator.schemas.execution import caveats as caveat_bits
from aggregator.schemas.execution import lenient_values, task_metadata

_ZONE_SECONDS = re.compile(r"([+-]\d\d:\d\d):\d\d(?:\.\d+)?$")


class ResourceUsage(msgspec.Struct):
    """What an attempt used (execution-files.md section 1.1)."""

    memory: float
    """Largest resident set, bytes."""
    start: str
    """When it began, ISO 8601."""
    prep_time: float
    """Seconds until the task was constructed."""
    init_time: float
    """Seconds of its construction."""
    run_time: float
    """Seconds of its run."""
    run_time_cpu: float
    """CPU seconds of its run."""


def _item(
    metadata: task_metadata.TaskMetadata, name: str
) -> task_metadata.Value | task_metadata.TaskMetadata:
    """Return the value of a name; of an array, the last element.

    Raises
    ------
    KeyError
        If there is none.
    """
    if name in metadata.scalars:
        return metadata.scalars[name]
    if name in metadata.metadata:
        return metadata.metadata[name]
    values = metadata.arrays[name]
    if not values:
        raise KeyError(name)
    return values[-1]


def _section(metadata: task_metadata.TaskMetadata, name: str) -> task_metadata.TaskMetadata | None:
    if name in metadata.scalars or name not in metadata.metadata:
        if name in metadata.scalars or metadata.arrays.get(name):
            raise ValueError(f"{name!r} is not a section of metadata")
        return None
    return metadata.metadata[name]


def _time(section: task_metadata.TaskMetadata, name: str) -> datetime.datetime | None:
    try:
        value = _item(section, name)
    except KeyError:
        return None
    if not isinstance(value, str):
        raise ValueError(f"quantum.{name} is not a time: {value!r}")
    return datetime.datetime.fromisoformat(value)


def _number(section: task_metadata.TaskMetadata, name: str, as_text: bool = False) -> float | None:
    try:
        value = _item(section, name)
    except KeyError:
        return None
    if type(value) is float:
        return value
    if isinstance(value, str) and not as_text:
        raise ValueError(f"quantum.{name} is not a number: {value!r}")
    try:
        return lenient_values.number(value)
    except ValueError as exc:
        raise ValueError(f"quantum.{name} is {exc}") from None


def resource_usage(metadata: task_metadata.TaskMetadata) -> ResourceUsage | None:
    """Return what an attempt used, or nothing without a `quantum` section (section 1.1).

    Raises
    ------
    ValueError
        If the section lacks its first or last time or its memory, or holds values of other types.
    """
    section = _section(metadata, "quantum")
    if section is None:
        return None
    end, start = _time(section, "endUtc"), _time(section, "prepUtc")
    memory = _number(section, "endMaxResidentSetSize", as_text=True)
    if end is None or start is None or memory is None:
        raise ValueError("the quantum section lacks prepUtc, endUtc or endMaxResidentSetSize")
    begin_init = _time(section, "initUtc") or end
    begin_run = _time(section, "startUtc") or end
    end_cpu, begin_cpu = _number(section, "endCpuTime"), _number(section, "startCpuTime")
    try:
        times = (start, begin_init, begin_run, end)
        steps = [(b - a).total_seconds() for a, b in itertools.pairwise(times)]
    except TypeError as exc:
        raise ValueError(f"times of the quantum section mix time zones ({exc})") from exc
    return ResourceUsage(
        memory=memory,
        start=_time_text(start),
        prep_time=steps[0],
        init_time=steps[1],
        run_time=steps[2],
        run_time_cpu=0.0 if end_cpu is None or begin_cpu is None else end_cpu - begin_cpu,
    )


def _time_text(time: datetime.datetime) -> str:
    """Return a time as graphs have it, where zones have no seconds."""
    text = time.isoformat()
    return text[:-6] + "Z" if text.endswith("+00:00") else _ZONE_SECONDS.sub(r"\1", text)


def caveats(metadata: task_metadata.TaskMetadata) -> int | None:
    """Return the caveat bits of a success (section 1.2).

    Raises
    ------
    ValueError
        If there are unknown bits, or the value is no integer.
    """
    section = _section(metadata, "quantum")
    if section is None:
        return None
    try:
        value = _item(section, "caveats")
    except KeyError:
        return None
    if isinstance(value, task_metadata.TaskMetadata):
        raise ValueError("quantum.caveats is not a number")
    try:
        bits = int(value)
    except OverflowError as exc:
        raise ValueError("quantum.caveats is infinite") from exc
    if not -caveat_bits.ALL - 1 <= bits <= caveat_bits.ALL:
        raise ValueError(f"quantum.caveats {bits} has unknown bits")
    return bits & caveat_bits.ALL


def failure(metadata: task_metadata.TaskMetadata, task_label: str) -> task_metadata.ExceptionInfo | None:
    """Return the exception of a success with partial outputs (section 1.2)."""
    section = _section(metadata, task_label)
    annotation = _section(section, "failure") if section is not None else None
    if annotation is None:
        return None
    try:
        type_name, message = _item(annotation, "type"), _item(annotation, "message")
    except KeyError:
        return None
    if not isinstance(type_name, str) or not isinstance(message, str):
        raise ValueError("the failure annotation's type and message are not texts")
    nested = _section(annotation, "metadata")
    return task_metadata.ExceptionInfo(type_name, message, dict(nested.scalars) if nested is not None else {})


def listed_outputs(metadata: task_metadata.TaskMetadata) -> list[str] | None:
    """Return the ids of the outputs that were put, or nothing if the metadata does not list them."""
    section = _section(metadata, "quantum")
    if section is None:
        return None
    if "outputs" in section.arrays:
        values = section.arrays["outputs"]
    elif "outputs" in section.scalars:
        values = [section.scalars["outputs"]]
    else:
        return None
    texts = [v for v in values if isinstance(v, str)]
    if len(texts) != len(values):
        raise ValueError("quantum.outputs holds values that are not ids")
    return texts
