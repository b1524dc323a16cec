"""Task metadata (execution-files.md section 1) of about the size and variety that real ones have."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Final

import numpy as np

from aggregator.synthesis import seeded_numbers

STAGES: Final = ("prep", "init", "start", "end")
"""Stages of an execution whose resources are recorded."""

_QUANTITIES: Final = (
    *("psfSigma", "psfE1", "psfE2", "skyLevel", "skyNoise", "zeroPoint", "zeroPointError", "seeing"),
    *("ellipticity", "medianResidual", "astromScatter", "magLimit", "effectiveTime", "fluxScale"),
    *("starTraceRadius", "deblendedFraction", "footprintArea", "chiSquared"),
)
_SUBTASKS: Final = (
    *("detrend", "psf", "astrometry", "photometry", "measurement", "deblend", "background", "resample"),
    *("apertureCorrection", "catalog", "masks", "kernel"),
)
_COUNTERS: Final = (
    *("MinorPageFaults", "MajorPageFaults", "BlockInputs", "BlockOutputs"),
    *("VoluntaryContextSwitches", "InvoluntaryContextSwitches"),
)
_EMPTY: Final = '"arrays":{},"metadata":{}'


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """Metadata of a task and its subtasks, which look the same for all quanta."""

    text: str
    """Format of the members; floats only, integers among them to be cut."""

    scales: seeded_numbers.Floats
    """Size of each number, shape (numbers,)."""


@functools.cache
def section(label: str, size: int) -> Section:
    """Return the metadata of a task, of about a size in bytes."""
    texts: list[str] = []
    scales: list[float] = []
    total = number = 0
    while not texts or total + _SECTION_SIZE // 2 < size:
        name = (
            label
            if not number
            else f"{label}:{_SUBTASKS[number % len(_SUBTASKS)]}{number // len(_SUBTASKS) or ''}"
        )
        text, sizes = _member(name, number, len(label))
        texts.append(text)
        scales += sizes
        total += _SECTION_SIZE
        number += 1
    return Section(",".join(texts), np.array(scales))


_SECTION_SIZE: Final = 690
"""Typical size of a subtask's metadata in bytes."""


def _member(name: str, number: int, shift: int) -> tuple[str, list[float]]:
    """Return the metadata of one subtask as a format, and the scales of its numbers."""
    chosen = [_QUANTITIES[(number * 5 + shift + i * 7) % len(_QUANTITIES)] for i in range(8)]
    short = name.rpartition(":")[2]
    scalars = ",".join(f'"{each}":%r' for each in dict.fromkeys(chosen))
    text = (
        f'"{name}":{{"scalars":{{{scalars},"numSources":%d,"converged":true,"model":"{short}-{number + 2}"}},'
        f'"arrays":{{"{short}StartCpuTime":[%r],"{short}EndCpuTime":[%r],"{short}EndMaxResidentSetSize":[%d],'
        f'"residuals":[%r,%r,%r,%r,%r,%r],"counts":[%d,%d,%d,%d,%d]}},"metadata":{{}}}}'
    )
    floats = [10.0 ** ((number + i) % 4 - 1) for i in range(len(set(chosen)))]
    return text, [*floats, 2e4, 900.0, 900.0, 4e9, *[0.1] * 6, *[5e3] * 5]


def _stage(name: str) -> str:
    counters = "".join(f',"{name}{each}":[%d]' for each in _COUNTERS)
    return (
        f'"{name}Utc":["%s+00:00"],"{name}CpuTime":[%r],"{name}UserTime":[%r],"{name}SystemTime":[%r],'
        f'"{name}MaxResidentSetSize":[%d]{counters}'
    )


NUMBERS_PER_STAGE: Final = 4 + len(_COUNTERS)
_FORMATS: Final = {stages: ",".join(map(_stage, stages)) for stages in (STAGES, ("prep", "end"))}


def metrics(luck: Sequence[float], n_outputs: int) -> str:
    """Return what a successful execution knows of its reads and writes."""
    return (
        f'{{"butler_metrics":{{"scalars":{{"time_in_put":{luck[0]!r},"time_in_get":{luck[1]!r},'
        f'"time_in_ingest":0.0,"n_get":{int(luck[2] * 30)},"n_put":{n_outputs},"n_ingest":0}},{_EMPTY}}}}}'
    )


def document(
    members: str,
    host: str,
    stages: Sequence[object],
    outputs: Sequence[str] | None,
    caveats: int | None,
    nested: str,
) -> str:
    """Return the metadata of one attempt.

    Parameters
    ----------
    members
        The task's own metadata.
    host
        Name of the node.
    stages
        Time and numbers of each stage, one after the other; of two stages if the task was not run.
    outputs
        Ids of the datasets written; nothing if the attempt does not tell.
    caveats
        Caveats of a success.
    nested
        Further metadata of the execution.
    """
    kept = STAGES if len(stages) == len(STAGES) * (1 + NUMBERS_PER_STAGE) else ("prep", "end")
    arrays = _FORMATS[kept] % tuple(stages)
    if outputs is not None:
        listed = '","'.join(outputs)
        arrays += f',"outputs":["{listed}"]' if outputs else ',"outputs":[]'
    noted = "" if caveats is None else f',"caveats":{caveats}'
    return (
        f'{{"scalars":{{}},"arrays":{{}},"metadata":{{{members},'
        f'"quantum":{{"scalars":{{"__version__":1,"nodeName":"{host}"{noted}}},"arrays":{{{arrays}}},'
        f'"metadata":{nested}}},'
        f'"job":{{"scalars":{{"qg_read_time":0.25,"qg_size":12}},{_EMPTY}}}}}}}'
    )
