"""How far a command is, as text for Prometheus (docs/outputs.md)."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping


@dataclasses.dataclass(frozen=True, slots=True)
class Metric:
    """One kind of number; all are gauges."""

    name: str
    """Its name."""

    help: str
    """What it is."""

    label: str | None = None
    """Name of the label that tells several numbers apart."""


METRICS = (
    Metric("aggregator_start_time_seconds", "When the command began, since 1970."),
    Metric("aggregator_last_update_time_seconds", "When these numbers were written, since 1970."),
    Metric("aggregator_running", "1 while the command runs, 0 when it has ended."),
    Metric("aggregator_exit_code", "Exit code of the command; absent while it runs."),
    Metric("aggregator_stage", "1 for what is going on.", "stage"),
    Metric("aggregator_items", "What there is to be done: quanta, or datasets of ingest-graph.", "step"),
    Metric(
        "aggregator_items_done",
        "What is done of that; of a campaign that is followed: what became of its quanta.",
        "step",
    ),
    Metric("aggregator_items_per_second", "How much of that was done a second.", "step"),
    Metric("aggregator_quanta", "Quanta by status, as far as they are judged.", "status"),
    Metric("aggregator_shards", "Shards: all of the graph, and those that are judged.", "state"),
    Metric("aggregator_datasets", "Datasets by what became of them, as in the summary.", "state"),
    Metric("aggregator_files", "Original files by what became of them, as in the summary.", "state"),
    Metric("aggregator_memory_bytes", "Memory that each process holds.", "process"),
)
"""All metrics, in the order in which they are written."""

Values = Mapping[str, float | Mapping[str, float]]
"""Numbers by metric; of one with a label, by its value."""


def write(values: Values, labels: Mapping[str, str]) -> bytes:
    """Return metrics as text.

    Parameters
    ----------
    values
        The numbers; metrics that are not among them are left out.
    labels
        Labels that all of them have.
    """
    return "".join(_lines(values, labels)).encode()


def _lines(values: Values, labels: Mapping[str, str]) -> Iterator[str]:
    for metric in METRICS:
        value = values.get(metric.name, {})
        samples: Iterable[tuple[Mapping[str, str], float]]
        if isinstance(value, Mapping):
            samples = [({metric.label or "": key}, number) for key, number in value.items()]
        else:
            samples = [({}, value)]
        if samples:
            yield f"# HELP {metric.name} {metric.help}\n# TYPE {metric.name} gauge\n"
        for own, number in samples:
            text = ",".join(f'{name}="{_escaped(text)}"' for name, text in {**labels, **own}.items())
            yield f"{metric.name}{{{text}}} {number!r}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
