"""Prints the answer to a question of `aggregator show`."""

import collections
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from aggregator.console import terminal
from aggregator.reading import lineage, provenance
from aggregator.schemas import printable
from aggregator.schemas.graphs import nodes
from aggregator.show import documents, question, texts
from aggregator.storage import errors

_INDENT = "        "
"""Before lines of messages after their first."""

_LIMIT = 50
"""Lines of lists in tables, unless asked for more."""


class Answer:
    """Prints what is asked for.

    Parameters
    ----------
    reader
        The graph.
    request
        What shall be shown.
    stream
        Where to write.
    """

    def __init__(
        self, reader: provenance.Provenance, request: question.Request, stream: terminal.Output
    ) -> None:
        self._reader = reader
        self._request = request
        self._stream = stream
        self._json = request.output_format == "json"
        default = None if self._json else _LIMIT
        self._limit = default if request.limit is None else request.limit or None
        self._head = {"format": documents.FORMAT, "graph": reader.path, "run": reader.header.output_run}

    def run(self) -> None:
        """Write it.

        Raises
        ------
        RefusedError
            If there is no such thing, or more than one where one is needed.
        """
        request, reader = self._request, self._reader
        if request.failed:
            self._show_failed()
        elif request.why is not None:
            dataset = question.one_dataset(reader, request, request.why)
            explained = reader.explain(dataset.dataset_id)
            self._write(documents.explained(reader, explained), texts.explained)
        elif request.views:
            self._show_views(question.one_node(reader, request))
        elif request.is_by_id:
            self._show_node(question.one_node(reader, request))
        elif request.dataset is not None or request.task is not None:
            self._show_matches()
        else:
            self._write(documents.summary(reader), texts.summary)

    def _write(self, document: documents.Document, lines: Callable[[dict[str, Any]], Iterator[str]]) -> None:
        document = {**self._head, **document}
        if self._json:
            self._stream.write(_dump(document) + "\n")
        else:
            self._print(lines(printable.values(document)))

    def _print(self, lines: Iterable[str]) -> None:
        self._stream.writelines(f"{printable.lines(line, _INDENT)}\n" for line in lines)

    def _show_node(self, node: lineage.Node) -> None:
        self._write(documents.node(self._reader, node), lambda d: texts.node(d, self._limit))

    def _show_matches(self) -> None:
        """Write the quanta or datasets that fit; in full if it is one."""
        matches = question.matches(self._reader, self._request, self._request.dataset)
        first = list(itertools.islice(matches, 2))
        if len(first) == 1:
            self._show_node(first[0])
            return
        briefs = (documents.brief(self._reader, node) for node in itertools.chain(first, matches))
        self._write_list("matches", briefs, texts.brief_table)

    def _show_failed(self) -> None:
        limit = None if self._limit is None else self._limit + 1
        failures = self._reader.failures(self._request.task, self._request.data_id, limit)
        rows = (documents.failure(self._reader, each) for each in failures)
        self._write_list("failures", rows, lambda rows: [x for r in rows for x in texts.failure(r)])

    def _write_list(
        self,
        name: str,
        listed: Iterator[documents.Document],
        lines: Callable[[list[dict[str, Any]]], list[str]],
    ) -> None:
        """Write a list, cut off at the limit; as JSON one element after the other, however many."""
        shown = itertools.islice(listed, self._limit)
        if self._json:
            self._stream.write(_dump(self._head)[:-1] + f', "{name}": [')
            for number, document in enumerate(shown):
                self._stream.write((",\n" if number else "\n") + _dump(document))
            more = next(listed, None) is not None
            self._stream.write(f'], "more": {_dump(more)}}}\n')
            return
        rows = printable.values(list(shown))
        text = lines(rows) if rows else [f"No {name}."]
        if next(listed, None) is not None:
            text.append(texts.more(len(rows), name))
        self._print(text)

    def _show_views(self, node: lineage.Node) -> None:
        steps = {"upstream": self._reader.upstream, "downstream": self._reader.downstream}
        for number, view in enumerate(self._request.views):
            if number and not self._json:
                self._stream.write("\n")
            if view in steps:
                walked = steps[view](lineage.node_id(node), self._request.depth)
                rows = (documents.step(self._reader, each) for each in walked)
                self._write_list(view, rows, lambda rows: texts.brief_table(rows, depth=True))
            elif view == "logs":
                self._show_logs(self._quantum_of(node))
            else:
                self._show_metadata(self._quantum_of(node))

    def _quantum_of(self, node: lineage.Node) -> str:
        """Return the id of a node's quantum; of a dataset, the one that writes it."""
        if isinstance(node, nodes.Dataset):
            if node.producer is None:
                problem = (
                    f"dataset {node.dataset_id} is an input of the run: it has no log and no metadata here"
                )
                raise errors.RefusedError(problem)
            return node.producer
        return node.quantum_id

    def _number(self, quantum_id: str) -> int:
        """Return the number of the attempt that is shown."""
        last = len(self._reader.attempts(quantum_id)) - 1
        return last if self._request.attempt is None else self._request.attempt

    def _show_logs(self, quantum_id: str) -> None:
        records, number = self._reader.logs(quantum_id, self._request.attempt), self._number(quantum_id)
        n = len(records or ())
        shown = collections.deque(records or (), self._limit)
        document = {
            "quantum": quantum_id,
            "attempt": number,
            "records": n,
            "logs": None if records is None else [documents.log_record(each) for each in shown],
        }

        def lines(document: dict[str, Any]) -> Iterator[str]:
            if document["logs"] is None:
                yield "This attempt left no log."
                return
            if len(shown) < n:
                yield f"... {n - len(shown)} earlier records; --limit N shows more, --limit 0 all"
            for each in document["logs"]:
                yield from texts.log_record(each)

        self._write(document, lines)

    def _show_metadata(self, quantum_id: str) -> None:
        metadata, number = self._reader.metadata(quantum_id, self._request.attempt), self._number(quantum_id)
        values = None if metadata is None else msgspec.to_builtins(metadata)
        document = {"quantum": quantum_id, "attempt": number, "metadata": values}

        def lines(document: dict[str, Any]) -> Iterator[str]:
            if document["metadata"] is None:
                yield "This attempt left no metadata."
                return
            text = texts.metadata(document["metadata"])
            yield from itertools.islice(text, self._limit)
            if next(text, None) is not None:
                yield texts.more(self._limit or 0, "lines")

        self._write(document, lines)


def _dump(value: Any) -> str:
    # Numbers that are not finite stay NaN and Infinity, as in the graph.
    return printable.json(json.dumps(value))
