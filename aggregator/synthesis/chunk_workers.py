"""Making the files of chunks: in this process, or in several."""

import collections
import functools
from collections.abc import Iterator, Sequence

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
from aggregator.workers.engines import engine as engine_module
from aggregator.workers.engines import in_process, outcomes, processes

_POLL_SECONDS = 10.0
_STOP_SECONDS = 60.0
"""How long processes may take to end when all is done."""


class Plan:
    """All that follows from the parameters of a run before anything is made.

    Parameters
    ----------
    root
        Directory of the run, with the configuration of its repository.
    options
        Parameters of the run.
    """

    def __init__(self, root: str, options: parameters.SynthesisParameters) -> None:
        self.options = options
        self.graph = node_numbers.Nodes(survey_module.plan(options.quanta), options.seed)
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
    root, options
        As for `Plan`.
    """

    def __init__(self, root: str, options: parameters.SynthesisParameters) -> None:
        plan = Plan(root, options)
        self._blocks = plan.blocks
        self._execution = quantum_files.Execution(options, plan.graph, plan.datasets)
        self._chunks = plan.graph.chunks()
        self._parts = parts.Parts(root)
        self._fates = self._parts.read_fates()
        self._frame = predicted_writer.Frames(self._parts.read_dictionary(), graph_module.LEVEL)

    def handle(self, number: int) -> int:
        """Write the files of a chunk's quanta, and then keep their predicted blocks; return its number.

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
        return number

    def close(self) -> None:
        """Do nothing: there is nothing to be released."""


def make_all(
    root: str, options: parameters.SynthesisParameters, numbers: Sequence[int], n_processes: int
) -> Iterator[int]:
    """Make chunks; yield the number of each when it is complete.

    Raises
    ------
    FatalWorkerError
        Raised if a process failed or died.
    """
    count = min(n_processes, len(numbers))
    engine: engine_module.Engine = in_process.Engine() if count < 2 else processes.Engine()
    seconds = 0.0
    try:
        programs = (
            engine_module.Program(f"synthesizer-{i:03}", functools.partial(Maker, root, options))
            for i in range(count)
        )
        yield from _feed(engine, [engine.start(program) for program in programs], numbers)
        seconds = _STOP_SECONDS
    finally:
        engine.end(seconds)


def _feed(
    engine: engine_module.Engine, makers: Sequence[engine_module.Worker], numbers: Sequence[int]
) -> Iterator[int]:
    """Have chunks made; yield the number of each when it is complete."""
    waiting = collections.deque(numbers)
    left = len(numbers)
    while left:
        for level in range(1, engine_module.MAX_IN_FLIGHT + 1):
            for maker in makers:
                if waiting and len(maker.outstanding) < level:
                    number = waiting.popleft()
                    maker.send(number, f"chunk {number}")
        for maker, outcome in engine.wait(_POLL_SECONDS):
            yield outcomes.value(maker, outcome)
            left -= 1
