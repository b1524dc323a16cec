"""Making the files of chunks: in this process, or in several."""

import collections
import contextlib
import os
import traceback
from collections.abc import Iterator, Sequence
from multiprocessing import connection as standard_connection
from typing import Any, Final

import multiprocess

from aggregator.butler import creation
from aggregator.butler.configuration import repository_config as butler_config
from aggregator.butler.dimensions import universe
from aggregator.schemas.graphs import pipeline as formats
from aggregator.schemas.graphs import predicted_writer
from aggregator.storage import errors
from aggregator.synthesis import (
    datasets,
    dimension_data,
    node_numbers,
    parameters,
    parts,
    pipeline_document,
    quantum_blocks,
    quantum_files,
)
from aggregator.synthesis import graph as graph_module
from aggregator.synthesis import survey as survey_module
from aggregator.workers.engines import launch

_IN_FLIGHT: Final = 2
"""Chunks that a process is told of: one to work on, one to go on with."""


class Plan:
    """All that follows from the parameters of a run before anything is made.

    Parameters
    ----------
    root
        Directory of the run, with the configuration of its repository.
    asked
        Parameters of the run.
    """

    def __init__(self, root: str, asked: parameters.SynthesisParameters) -> None:
        self.asked = asked
        self.graph = node_numbers.Nodes(survey_module.plan(asked.quanta), asked.seed)
        self.pipeline_json = pipeline_document.document(creation.compact_dimensions())
        parsed = formats.parse_pipeline(self.pipeline_json, root)
        dimensions = universe.Universe.from_config(parsed.universe)
        rows = dimension_data.named_rows(self.graph.survey, dimensions)
        self.datasets = datasets.Datasets(self.graph, parsed, butler_config.load(root), rows)
        self.blocks = quantum_blocks.QuantumBlocks(self.graph, self.datasets)


class Maker:
    """Makes chunks.

    Parameters
    ----------
    root, asked
        As for `Plan`.
    """

    def __init__(self, root: str, asked: parameters.SynthesisParameters) -> None:
        plan = Plan(root, asked)
        self._blocks = plan.blocks
        self._execution = quantum_files.Execution(asked, plan.graph, plan.datasets)
        self._chunks = plan.graph.chunks()
        self._parts = parts.Parts(root)
        self._fates = self._parts.read_fates()
        self._frame = predicted_writer.Frames(self._parts.read_dictionary(), graph_module.LEVEL)

    def make(self, number: int) -> None:
        """Write the files of a chunk's quanta, and then keep their predicted blocks.

        Raises
        ------
        AggregatorError
            Raised if they can't be written.
        """
        chunk = self._chunks[number]
        n = chunk.end - chunk.begin
        try:
            self._execution.write(chunk, self._fates[chunk.first : chunk.first + n])
            self._parts.write_part(number, [self._frame(text) for text in self._blocks.documents(chunk)])
        except OSError as exc:
            raise errors.AggregatorError(
                f"{exc.filename or self._parts.directory}: can't write files there ({exc.strerror}). "
                "Make room, and run the same command again."
            ) from exc


def make_all(
    root: str, asked: parameters.SynthesisParameters, numbers: Sequence[int], n_processes: int
) -> Iterator[int]:
    """Make chunks; yield the number of each when it is complete.

    Raises
    ------
    FatalWorkerError
        Raised if a process failed or died.
    """
    if n_processes == 1 or len(numbers) < 2:
        maker = Maker(root, asked)
        for number in numbers:
            maker.make(number)
            yield number
        return
    with contextlib.ExitStack() as started:
        count = min(n_processes, len(numbers))
        helpers = [started.enter_context(_Helper(i, root, asked)) for i in range(count)]
        waiting = collections.deque(numbers)
        for _ in range(_IN_FLIGHT):
            for helper in helpers:
                helper.give(waiting)
        left = len(numbers)
        while left:
            for helper in _ready(helpers):
                yield helper.take()
                helper.give(waiting)
                left -= 1


def _ready(helpers: Sequence["_Helper"]) -> list["_Helper"]:
    """Wait until there is an answer, or a process has ended; return those with answers."""
    standard_connection.wait([*(h.pipe for h in helpers), *(h.process.sentinel for h in helpers)])
    # The pipe of a dead process is ready, too.
    return [helper for helper in helpers if helper.process.exitcode is not None or helper.pipe.poll()]


class _Helper:
    """A process that makes chunks; a context manager that ends it."""

    def __init__(self, position: int, root: str, asked: parameters.SynthesisParameters) -> None:
        self.pipe, child = multiprocess.get_context("spawn").Pipe(duplex=True)
        self.process = launch.start(serve, (child, root, asked), f"maker-{position:03}")
        child.close()

    def __enter__(self) -> "_Helper":
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        self.pipe.close()
        if kind is not None:
            self.process.kill()
        self.process.join()

    def give(self, waiting: collections.deque[int]) -> None:
        """Send the next chunk, if there is one."""
        if waiting:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.pipe.send(waiting.popleft())

    def take(self) -> int:
        """Return the number of a complete chunk."""
        try:
            answer = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join(1.0)
            code = self.process.exitcode
            answer = f"its process ended with exit code {code}. Run the same command again.", ""
        if isinstance(answer, int):
            return answer
        cause, details = answer
        error = errors.FatalWorkerError(f"{self.process.name}: {cause}")
        error.add_note(details)
        raise error


def serve(pipe: Any, root: str, asked: parameters.SynthesisParameters) -> None:
    """Make chunks until the pipe closes: the main function of a process."""
    launch.settle()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            maker = Maker(root, asked)
            while True:
                number = pipe.recv()
                maker.make(number)
                pipe.send(number)
        except errors.AggregatorError as exc:
            pipe.send((str(exc), traceback.format_exc()))
        except Exception as exc:
            if not isinstance(exc, EOFError | BrokenPipeError | ConnectionResetError):
                pipe.send((f"{type(exc).__name__}: {exc}", traceback.format_exc()))
    os._exit(0)
