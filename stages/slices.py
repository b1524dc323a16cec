"""Slices: processes, each of which has a clipboard of its own for the same stages (stages.md section 3)."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

from aggregator.stages import clipboards, locations, stage
from aggregator.storage import errors
from aggregator.workers.engines import engine, outcomes, processes

_PAUSE: Final = 1.0
_PATIENCE: Final = 10.0
"""Seconds that a slice has to end in, before it is killed."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Turn:
    """What a slice is asked to do."""

    number: int
    """Which stage."""

    shared: Mapping[str, Any]
    """Items of the master that all slices get first."""


class _Slice:
    """Answers turns, in the process of a slice."""

    def __init__(
        self, stages: Sequence[stage.Stage], surroundings: stage.Surroundings, location_map: Mapping[str, Any]
    ) -> None:
        locations.set_map(location_map)
        self._clipboard = clipboards.Clipboard()
        self._parts: list[stage.ParallelProcessing] = []
        try:
            for number, each in enumerate(stages):
                self._parts.append(each.parallel(dataclasses.replace(surroundings, stage_id=number)))
        except BaseException:
            self.close()
            raise

    def handle(self, message: Any) -> None:
        """Take a turn."""
        for key, item in message.shared.items():
            self._clipboard.put(key, item, shared=True)
        self._parts[message.number].process(self._clipboard)

    def close(self) -> None:
        """Close all stages."""
        for part in self._parts:
            part.close()


class Slices:
    """The slices of a run.

    Parameters
    ----------
    stages
        The stages.
    count
        How many slices there are.
    run_id
        Name of the run.
    """

    def __init__(self, stages: Sequence[stage.Stage], count: int, run_id: str) -> None:
        self._stages = stages
        self._engine = processes.Engine()
        self._ranks: dict[engine.Worker, int] = {}
        try:
            for rank in range(count):
                surroundings = stage.Surroundings(rank, count + 1, run_id)
                make = functools.partial(_Slice, stages, surroundings, locations.current_map())
                self._ranks[self._engine.start(engine.Program(f"slice {rank}", make))] = rank
        except BaseException:
            self._engine.end(0)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.end(_PATIENCE if error is None else 0)

    def process(self, number: int, shared: Mapping[str, Any]) -> None:
        """Let all slices take their turn at a stage, side by side.

        Parameters
        ----------
        number
            Which stage.
        shared
            Items that all slices get first.

        Raises
        ------
        AggregatorError
            If one has failed or died; tells which, after all others have finished.
        """
        for worker in self._ranks:
            worker.send(_Turn(number, shared), f"stage {number}")
        waiting = set(self._ranks)
        failures: dict[int, str] = {}
        while waiting:
            for worker, outcome in self._engine.wait(_PAUSE):
                waiting.discard(worker)
                try:
                    outcomes.value(worker, outcome)
                except errors.AggregatorError as exc:
                    failures[self._ranks[worker]] = str(exc)
        if failures:
            texts = "; ".join(failures[rank] for rank in sorted(failures))
            raise errors.AggregatorError(f"Stage {self._stages[number].name or number}: {texts}")


def run(
    stages: Sequence[stage.Stage],
    inputs: clipboards.Queue,
    outputs: clipboards.Queue,
    *,
    n_slices: int = 0,
    run_id: str = "user-driven",
) -> None:
    """Run stages, one after the other, with the first clipboard of a queue.

    The clipboard stays where it is until all stages are done; then it goes to the other queue.

    Parameters
    ----------
    stages
        The stages. With slices, these and what is shared have to be picklable.
    inputs, outputs
        Where the clipboard of the master comes from, and goes to.
    n_slices
        How many slices there are; without any, only what the master does is done.
    run_id
        Name of the run.

    Raises
    ------
    AggregatorError
        If there is no clipboard, or a stage fails.
    """
    clipboard = inputs.element()
    master = stage.Surroundings(stage.MASTER, n_slices + 1, run_id)
    # Slices first: they may be copies of this process, and shall not have what is opened here.
    with Slices(stages, n_slices, run_id) as slices, contextlib.ExitStack() as opened:
        parts = []
        for number, each in enumerate(stages):
            parts.append(each.serial(dataclasses.replace(master, stage_id=number)))
            opened.callback(parts[-1].close)
        for number, part in enumerate(parts):
            part.preprocess(clipboard)
            slices.process(number, {key: clipboard.get(key) for key in clipboard.shared_keys()})
            part.postprocess(clipboard)
    outputs.add(inputs.take())
