"""Numbers of all quanta and datasets of a run, from which their ids follow."""

import dataclasses
from typing import Final

import numpy as np

from aggregator.schemas.graphs import addresses
from aggregator.synthesis import node_ids, seeded_numbers, survey_data_ids, survey_pipeline
from aggregator.synthesis import survey as survey_module

_OUTPUTS: Final = 1 << 32
"""Number of the first output: about a day after the first of the overall inputs."""

CHUNK: Final = 480
"""Quanta of a task that are made together; a multiple of the quanta that one process executes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive quanta of one task."""

    number: int
    """Position among all chunks."""

    task: int
    """Position of the task in the pipeline."""

    begin: int
    """Row of the first quantum among those of the task."""

    end: int
    """Row after the last one."""

    first: int
    """Position of the first quantum among all quanta of the graph."""

    @property
    def rows(self) -> seeded_numbers.Integers:
        """Rows of the quanta."""
        return np.arange(self.begin, self.end)


class Nodes:
    """All nodes of a run's graph.

    Parameters
    ----------
    survey
        What is observed.
    seed
        Seed of the ids.
    """

    def __init__(self, survey: survey_module.Survey, seed: int) -> None:
        self.survey = survey
        self.seed = seed
        self.counts = {
            name: survey_data_ids.KINDS[kind.kind].count(survey)
            for name, kind in survey_pipeline.DATASET_TYPES.items()
        }
        self._first: dict[str, int] = {}
        number = 0
        for each in survey_pipeline.OVERALL_INPUTS:
            self._first[each.name] = number
            number += self.counts[each.name]
        number = _OUTPUTS
        for task in survey_pipeline.TASKS:
            number = self._place_outputs(task, number)
        self._extra = number
        self.task_counts = [survey_data_ids.KINDS[task.kind].count(survey) for task in survey_pipeline.TASKS]
        self.first_rows = np.concatenate([[0], np.cumsum(self.task_counts)]).tolist()
        self._first_quantum = number + 2 + len(survey_pipeline.TASKS) + 1

    def _place_outputs(self, task: survey_pipeline.Task, number: int) -> int:
        """Number the outputs of a task; those of one quantum follow each other, as if made together."""
        for each in task.all_init_outputs:
            self._first[each.dataset_type] = number
            number += 1
        for position, each in enumerate(task.all_outputs):
            self._first[each.dataset_type] = number + position
        return number + len(task.all_outputs) * self.counts[task.all_outputs[0].dataset_type]

    @property
    def n_quanta(self) -> int:
        """Number of regular quanta."""
        return int(self.first_rows[-1])

    @property
    def n_datasets(self) -> int:
        """Number of datasets, `packages` included."""
        return sum(self.counts.values()) + 1

    def _text(self, number: int) -> str:
        return node_ids.texts(self.seed, np.array([number]))[0]

    @property
    def packages_id(self) -> str:
        """Id of the dataset with the versions of the software."""
        return self._text(self._extra)

    @property
    def provenance_id(self) -> str:
        """Id that the header reserves for the provenance graph."""
        return self._text(self._extra + 1)

    def init_quantum_id(self, task: int) -> str:
        """Return the id of a task's initialisation; -1 is the producer of `packages`."""
        return self._text(self._extra + 3 + task)

    def dataset_ids(self, name: str, rows: seeded_numbers.Integers) -> list[str]:
        """Return the ids of datasets of a type."""
        return node_ids.texts(self.seed, self._numbers(name, rows))

    def _numbers(self, name: str, rows: seeded_numbers.Integers) -> seeded_numbers.Integers:
        step = _STEPS.get(name, 1)
        return self._first[name] + rows * step

    def ids_of_chunk(self, chunk: Chunk) -> list[str]:
        """Return the ids of the quanta of a chunk."""
        return self.quantum_texts(np.arange(chunk.first, chunk.first + chunk.end - chunk.begin))

    def quantum_ids(self, positions: seeded_numbers.Integers) -> addresses.Ids:
        """Return the ids of quanta at positions in the graph."""
        return node_ids.ids(self.seed, self._first_quantum + positions)

    def quantum_texts(self, positions: seeded_numbers.Integers) -> list[str]:
        """Return the same ids in their usual form."""
        return node_ids.texts(self.seed, self._first_quantum + positions)

    def chunks(self) -> list[Chunk]:
        """Return all chunks, in the order of the graph."""
        chunks: list[Chunk] = []
        for task, count in enumerate(self.task_counts):
            for begin in range(0, count, CHUNK):
                first = self.first_rows[task] + begin
                chunks.append(Chunk(len(chunks), task, begin, min(begin + CHUNK, count), first))
        return chunks


_STEPS: Final = {
    each.dataset_type: len(task.all_outputs) for task in survey_pipeline.TASKS for each in task.all_outputs
}
"""Difference of the numbers of consecutive datasets of a type."""
