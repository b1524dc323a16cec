"""Predicted quanta as the graph has them (quantum-graph-format.md section 6.4)."""

from itertools import accumulate

import numpy as np

from aggregator.synthesis import datasets, node_numbers, quantum_inputs, survey_pipeline


def _grouped(texts: list[str], counts: list[int]) -> list[str]:
    """Return JSON lists of consecutive texts, so many in each."""
    ends = accumulate(counts)
    return [f"[{','.join(texts[end - n : end])}]" for n, end in zip(counts, ends, strict=True)]


class QuantumBlocks:
    """Describes the quanta of a run.

    Parameters
    ----------
    graph
        The run's nodes.
    described
        The run's datasets.
    """

    def __init__(self, graph: node_numbers.Nodes, described: datasets.Datasets) -> None:
        self._nodes = graph
        self._datasets = described

    def documents(self, chunk: node_numbers.Chunk) -> list[bytes]:
        """Return the JSON of each quantum of a chunk."""
        task = survey_pipeline.TASKS[chunk.task]
        n = chunk.end - chunk.begin
        inputs: list[list[str]] = []
        records: list[list[tuple[str, str]]] = [[] for _ in range(n)]
        for each in task.inputs:
            inputs.append(self._input(each, chunk, records))
        outputs = [self._output(each, chunk) for each in task.all_outputs]
        names = [f'"{each.connection}":' for each in task.inputs]
        out_names = [f'"{each.connection}":' for each in task.all_outputs]
        values = self._datasets.values(task.kind, chunk.rows)
        documents = []
        for quantum_id, value, ins, outs, held in zip(
            self._nodes.ids_of_chunk(chunk),
            values,
            zip(*inputs, strict=True),
            zip(*outputs, strict=True),
            records,
            strict=True,
        ):
            documents.append(
                f'{{"quantum_id":"{quantum_id}","task_label":"{task.label}",'
                f'"data_coordinate":{datasets.coordinate(value)},'
                f'"inputs":{{{",".join(map(str.__add__, names, ins))}}},'
                f'"outputs":{{{",".join(map(str.__add__, out_names, outs))}}},'
                f'"datastore_records":{self._datasets.records(held)}}}'.encode()
            )
        return documents

    def _input(
        self, each: survey_pipeline.Input, chunk: node_numbers.Chunk, records: list[list[tuple[str, str]]]
    ) -> list[str]:
        """Return an input's datasets as JSON; add records of overall inputs to those of the quanta."""
        rows, counts = quantum_inputs.REACHES[each.reach](self._nodes.survey, chunk.rows)
        distinct_rows, inverse = datasets.distinct(rows)
        texts = self._datasets.documents(each.dataset_type, distinct_rows)
        lengths = counts.tolist()
        if survey_pipeline.DATASET_TYPES[each.dataset_type].run is not None:
            documents = self._datasets.record_documents(each.dataset_type, distinct_rows)
            position = 0
            for held, length in zip(records, lengths, strict=True):
                held += [documents[i] for i in inverse[position : position + length]]
                position += length
        return _grouped([texts[i] for i in inverse], lengths)

    def _output(self, each: survey_pipeline.Output, chunk: node_numbers.Chunk) -> list[str]:
        return [f"[{text}]" for text in self._datasets.documents(each.dataset_type, chunk.rows)]


def edges(graph: node_numbers.Nodes, task: int, begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Return producers and consumers of the edges into quanta of a task, each pair once.

    Parameters
    ----------
    graph
        The run's nodes.
    task
        Position of the task.
    begin, end
        Rows of its quanta.

    Returns
    -------
    producers, consumers
        Positions among all quanta of the graph, shape (edges,).
    """
    rows = np.arange(begin, end)
    producers, consumers = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    pairs = set()
    for each in survey_pipeline.TASKS[task].inputs:
        producer = _PRODUCERS.get(each.dataset_type)
        if producer is None or (producer, each.reach) in pairs:
            continue
        pairs.add((producer, each.reach))
        producer_rows, counts = quantum_inputs.REACHES[each.reach](graph.survey, rows)
        producers.append(producer_rows + graph.first_rows[producer])
        consumers.append(np.repeat(rows + graph.first_rows[task], counts))
    return np.concatenate(producers), np.concatenate(consumers)


def count_edges(graph: node_numbers.Nodes) -> int:
    """Return the number of inputs and outputs of all quanta."""
    total = 0
    for task, count in zip(survey_pipeline.TASKS, graph.task_counts, strict=True):
        total += count * len(task.all_outputs)
        for begin in range(0, count, _SLICE):
            rows = np.arange(begin, min(begin + _SLICE, count))
            total += sum(
                int(quantum_inputs.REACHES[each.reach](graph.survey, rows)[1].sum()) for each in task.inputs
            )
    return total


_SLICE = 1 << 16
_PRODUCERS = {
    each.dataset_type: position
    for position, task in enumerate(survey_pipeline.TASKS)
    for each in task.all_outputs
}
"""Position of the task that produces each dataset type."""
