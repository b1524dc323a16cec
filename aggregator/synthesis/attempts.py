"""Attempts to execute the quanta of a chunk: when, where, for how long, and the numbers that they leave."""

import dataclasses
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from aggregator.synthesis import (
    log_texts,
    metadata_texts,
    node_numbers,
    parameters,
    quantum_outcomes,
    seeded_numbers,
    survey_pipeline,
)

PER_PROCESS: Final = 12
"""Quanta that one process executes."""

_STREAM: Final = 2
"""Distinguishes the numbers drawn here from those for fates."""

_START: Final = np.datetime64("2026-03-02T00:10:00", "us")
_COMMON: Final = 300
"""Typical size of what all records of an attempt have in common, in bytes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt."""

    process: int
    """Id of the process."""

    host: str
    """Node that it runs on."""

    seconds: float
    """Time that it takes."""

    times: list[str]
    """Time of each log record."""

    values: list[tuple[int, int, int, float, float]]
    """What the log records say, but for the first and the last one."""

    numbers: tuple[float, ...]
    """Numbers in the task's own metadata."""

    stages: list[Any]
    """Time and resources of each stage."""

    luck: list[float]
    """More numbers between 0 and 1."""


def count(chunk_fates: quantum_outcomes.Fates, numbers: seeded_numbers.Dice) -> seeded_numbers.Integers:
    """Return how often each quantum is attempted."""
    luck = numbers.uniform(len(chunk_fates))
    counts = np.ones(len(chunk_fates), dtype=np.int64)
    counts[chunk_fates == quantum_outcomes.RETRIED] += 1 + (
        luck[chunk_fates == quantum_outcomes.RETRIED] > 0.8
    )
    counts[chunk_fates == quantum_outcomes.FAILED] += luck[chunk_fates == quantum_outcomes.FAILED] > 0.5
    counts[chunk_fates >= quantum_outcomes.KILLED] = 0
    return counts


def make(
    options: parameters.SynthesisParameters,
    chunk: node_numbers.Chunk,
    chunk_fates: quantum_outcomes.Fates,
    section: metadata_texts.Section,
) -> Iterator[tuple[list[Attempt], list[float]]]:
    """Yield the attempts of each quantum of a chunk, and numbers between 0 and 1 for all else.

    Parameters
    ----------
    options
        Parameters of the run.
    chunk
        The quanta.
    chunk_fates
        What happens to each of them.
    section
        Form of their task's metadata.
    """
    numbers = seeded_numbers.Dice(options.seed, _STREAM, chunk.number)
    counts = count(chunk_fates, numbers)
    spare = numbers.uniform(len(counts), 4).tolist()
    made = iter(_Table(options, chunk, counts, section, numbers))
    for n, luck in zip(counts.tolist(), spare, strict=True):
        yield [next(made) for _ in range(n)], luck


class _Table:
    """All attempts of a chunk as columns."""

    def __init__(
        self,
        options: parameters.SynthesisParameters,
        chunk: node_numbers.Chunk,
        counts: seeded_numbers.Integers,
        section: metadata_texts.Section,
        numbers: seeded_numbers.Dice,
    ) -> None:
        task = survey_pipeline.TASKS[chunk.task]
        n = int(counts.sum())
        group = np.repeat(np.arange(len(counts)), counts) // PER_PROCESS
        groups = -(-len(counts) // PER_PROCESS)
        self._process = (1000 + numbers.below(4_000_000, groups))[group]
        self._host = numbers.below(400, groups)[group]
        seconds = task.seconds * np.exp2(np.clip(numbers.bell(n), -2.5, 2.5))
        self._seconds = np.round(seconds, 6)
        begin = self._begins(group, groups, numbers)
        self._records = self._count_records(options.log_size, task, n, numbers)
        self._log_times = self._times_of_records(begin, numbers)
        self._draw_records(task, numbers)
        self._members = (numbers.uniform(n, len(section.scales)) * section.scales).tolist()
        self._stages = self._draw_stages(begin, group, groups, numbers)
        self._luck = numbers.uniform(n, 4).tolist()

    def _begins(
        self, group: seeded_numbers.Integers, groups: int, numbers: seeded_numbers.Dice
    ) -> seeded_numbers.Floats:
        """Return when each attempt begins, in seconds: those of a process one after the other."""
        elapsed = np.cumsum(self._seconds + 0.5) - self._seconds
        begins = numbers.uniform(groups) * 80_000.0
        # Of a process in which nothing runs, the place found is not used, and may be beyond the last one.
        first = np.searchsorted(group, np.arange(groups))
        result: seeded_numbers.Floats = begins[group] + elapsed - np.append(elapsed, 0.0)[first][group]
        return result

    def _count_records(
        self, log_size: int, task: survey_pipeline.Task, n: int, numbers: seeded_numbers.Dice
    ) -> seeded_numbers.Integers:
        mean = log_texts.count_records(task.label, log_size * task.weight, _COMMON)
        return np.maximum(3, np.round(mean * (1.0 + 0.25 * numbers.bell(n)))).astype(np.int64)

    def _times_of_records(self, begin: seeded_numbers.Floats, numbers: seeded_numbers.Dice) -> list[str]:
        counts = self._records
        begins = np.cumsum(counts) - counts
        position = np.arange(int(counts.sum())) - np.repeat(begins, counts)
        share = (position + numbers.uniform(len(position))) / np.repeat(counts, counts)
        seconds = np.repeat(begin, counts) + share * np.repeat(self._seconds, counts)
        return _as_texts(seconds)

    def _draw_records(self, task: survey_pipeline.Task, numbers: seeded_numbers.Dice) -> None:
        n = int(self._records.sum())
        kinds = numbers.below(len(log_texts.formats(task.label)), n).tolist()
        first, second = numbers.below(5000, n).tolist(), numbers.below(90, n).tolist()
        scales = np.array([1.0, 10.0, 100.0, 1000.0])[numbers.below(4, n)]
        x, y = numbers.uniform(n).tolist(), (numbers.uniform(n) * scales).tolist()
        self._values = list(zip(kinds, first, second, x, y, strict=True))

    def _draw_stages(
        self,
        begin: seeded_numbers.Floats,
        group: seeded_numbers.Integers,
        groups: int,
        numbers: seeded_numbers.Dice,
    ) -> list[list[Any]]:
        n = len(begin)
        lasting = np.stack([np.zeros(n), np.full(n, 0.02), np.full(n, 0.3), self._seconds], axis=1)
        moments = begin[:, None] + np.minimum(lasting, self._seconds[:, None])
        cpu = 5.0 + (moments - begin[:, None]) * 0.85 + 3.0 * numbers.uniform(groups)[group][:, None]
        memory = 4e8 + 3e9 * numbers.uniform(n)[:, None] * np.array([0.2, 0.2, 0.3, 1.0])
        counters = numbers.uniform(n, 4, 6) * np.array([1e6, 1e2, 1e5, 1e5, 1e4, 1e4])
        rows = np.concatenate([np.stack([cpu, cpu * 0.9, cpu * 0.1, memory], axis=2), counters], axis=2)
        texts = iter(_as_texts(moments.ravel()))
        result = []
        for stages in rows.tolist():
            row: list[Any] = []
            for stage in stages:
                row.append(next(texts))
                row += stage
            result.append(row)
        return result

    def __iter__(self) -> Iterator[Attempt]:
        position = 0
        columns = (self._process, self._host, self._seconds, self._records)
        for i, (process, host, seconds, n) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
            end = position + n
            yield Attempt(
                process,
                f"node{host:03}",
                seconds,
                self._log_times[position:end],
                self._values[position + 1 : end - 1],
                tuple(self._members[i]),
                self._stages[i],
                self._luck[i],
            )
            position = end


def _as_texts(seconds: seeded_numbers.Floats) -> list[str]:
    """Return times, in seconds since the start, with microseconds and without a time zone."""
    moments = _START + np.round(seconds * 1e6).astype("timedelta64[us]")
    texts: list[str] = np.datetime_as_string(moments).tolist()
    return texts
