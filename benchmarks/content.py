"""Log and metadata files of realistic size and variety."""

from __future__ import annotations

import dataclasses
import datetime
import math
import random
from typing import Any

SOURCES = (
    ("isr", "isrTask.py", "run"),
    ("isr.assemble", "assembleCcdTask.py", "assembleCcd"),
    ("calibrate.psf", "measurePsf.py", "fitModel"),
    ("calibrate.astrometry", "astrometryTask.py", "solve"),
    ("calibrate.photometry", "photoCalTask.py", "zeroPoint"),
    ("measurement", "singleFrame.py", "runPlugins"),
    ("deblend", "multibandDeblend.py", "deblendParents"),
    ("background", "subtractBackground.py", "fitBackground"),
    ("warp.resample", "makeWarp.py", "resampleImage"),
    ("io", "connections.py", "readInputs"),
)
"""Logger suffix, file and function of the code that is said to have logged."""

TEMPLATES = (
    "Fitted {a} stars with residual {x:.6f} +/- {y:.6f} mag after {b} iterations",
    "Rejected {b} of {a} candidates: {c} saturated, {d} near the edge, {e} with bad shapes",
    "Measured background level {z:.4f} adu with rms {x:.5f}; binning {b} by {c} pixels",
    "Matched {a} of {d} reference objects within {y:.3f} arcsec; scatter {x:.5f} arcsec in RA",
    "Peak memory so far {a}{b} kB; {c} pages reclaimed, {d} context switches",
    "Plugin base_Blendedness failed on source {a}{b}{c}: centroid ({z:.3f}, {w:.3f}) is outside",
    "Wavefront estimate has Zernike coefficients [{x:.7f}, {y:.7f}, -{x:.5f}, {y:.6f}]",
    "Interpolated {a} defects covering {b}{c} pixels ({x:.4f} of the image)",
    "Zero point {z:.5f} +/- {x:.6f}, colour term {y:.6f}, {a} stars, chi2/dof {w:.3f}",
    "Kernel basis has {b} components; condition number {z:.3e}; spatial order {c}",
    "Read {a} rows and {b} columns from table of shape ({a}, {b}) in {x:.4f} s",
    "Amplifier C{b:02}: gain {y:.6f} e-/adu, read noise {z:.4f} e-, overscan {w:.4f} adu",
)

QUANTITIES = (
    *("psfSigma", "psfE1", "psfE2", "skyLevel", "skyNoise", "zeroPoint", "zeroPointError", "seeing"),
    *("ellipticity", "medianResidual", "astromScatter", "magLimit", "effTime", "fluxScale"),
)


@dataclasses.dataclass(slots=True)
class Process:
    """A batch job that executes some quanta, one after the other."""

    dice: random.Random
    """Source of everything that varies."""

    clock: datetime.datetime
    """Time in the process, UTC."""

    pid: int
    """Its id."""

    cpu: float = 5.0
    """CPU time used so far, in seconds."""

    memory: int = 400_000_000
    """Peak memory so far, in bytes."""

    done: list[str] = dataclasses.field(default_factory=list)
    """Ids of the quanta that it has executed."""

    def passes(self, seconds: float) -> None:
        """Let time pass."""
        self.clock += datetime.timedelta(seconds=seconds)
        self.cpu += seconds * self.dice.uniform(0.7, 1.0)
        self.memory += int(self.dice.expovariate(1e-6))


def _record(
    process: Process, name: str, file: str, function: str, message: str, level: int
) -> dict[str, Any]:
    return {
        "name": name,
        "asctime": process.clock.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "message": message,
        "levelno": level,
        "levelname": {20: "INFO", 30: "WARNING", 40: "ERROR"}[level],
        "filename": file,
        "pathname": f"/opt/stack/lib/python3.11/site-packages/example/pipe/tasks/{file}",
        "lineno": 40 + sum(map(ord, message[:12])) % 900,
        "funcName": function,
        "process": process.pid,
        "processName": "MainProcess",
    }


def _random_record(process: Process, label: str) -> dict[str, Any]:
    dice = process.dice
    process.passes(dice.expovariate(2.0))
    suffix, file, function = dice.choice(SOURCES)
    a, b, c, d, e = (dice.randrange(limit) for limit in (5000, 90, 60, 3000, 40))
    x, y, z, w = dice.random(), dice.random(), dice.uniform(1, 4000), dice.uniform(0, 300)
    message = dice.choice(TEMPLATES).format(a=a, b=b, c=c, d=d, e=e, x=x, y=y, z=z, w=w)
    level = 30 if dice.random() < 0.06 else 20
    return _record(process, f"example.{label}.{suffix}", file, function, message, level)


def records(process: Process, entry: dict[str, Any], run: str, size: int) -> list[dict[str, Any]]:
    """Return log records of one attempt, of about ``size`` bytes in all."""
    label = entry["task"]
    data_id = ", ".join(f"{key}: {value!r}" for key, value in entry["data_id"].items())
    mdc = {"LABEL": f"{label}:{{{data_id}}}", "RUN": run}
    count = max(4, round(process.dice.gauss(1.0, 0.15) * size / (420 + len(mdc["LABEL"]))))
    code = ("example.executor", "single_quantum_executor.py", "execute")
    first = f"Preparing execution of quantum for label={label} dataId={{{data_id}}}."
    last = (
        f"Execution of task '{label}' on quantum {{{data_id}}} took {process.dice.uniform(1, 60):.3f} seconds"
    )
    found = [_record(process, *code, first, 20)]
    found += [_random_record(process, label) for _ in range(count - 2)]
    found.append(_record(process, *code, last, 20))
    return [{**record, "MDC": mdc} for record in found]


def failure(process: Process, entry: dict[str, Any], size: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the log of a failed attempt has in its extra keys: exception and metadata."""
    dice = process.dice
    kind = dice.choice(("builtins.ValueError", "builtins.RuntimeError", "example.MatchingFailedError"))
    message = f"No match for {entry['data_id']} after {dice.randrange(9)} tries: {dice.random():.5f} > 0.3"
    exception = {"type_name": kind, "message": message, "metadata": {}}
    return exception, metadata(process, entry, [], size, failed=True)


def metadata(
    process: Process,
    entry: dict[str, Any],
    outputs: list[str],
    size: int,
    caveats: int = 0,
    failed: bool = False,
) -> dict[str, Any]:
    """Return the metadata of one attempt, of about ``size`` bytes.

    Parameters
    ----------
    process
        The process that executes the quantum, at the end of the execution.
    entry
        The quantum's entry in the run's manifest.
    outputs
        Ids of the outputs that were written.
    size
        Bytes wanted.
    caveats
        The caveats of a success.
    failed
        Whether the attempt has failed.
    """
    dice, label = process.dice, entry["task"]
    sections: dict[str, Any] = {label: _section(dice, "run")}
    # Each subtask takes about 600 bytes, the quantum's own section 2200.
    for number in range(max(0, round((size - 2800) / 600))):
        sections[f"{label}:step{number}"] = _section(dice, f"step{number}")
    awkward = dice.random() < 0.2
    if awkward:
        scalars = sections[label]["scalars"]
        scalars[dice.choice(QUANTITIES)] = dice.choice((math.nan, math.inf, -math.inf))
        sections[label]["arrays"]["chi2"] = [dice.random(), math.nan, dice.random()]
    sections["quantum"] = _quantum_section(process, outputs, caveats, failed)
    job = {"qg_read_time": dice.random(), "qg_size": 1_000_000}
    sections["job"] = {"scalars": job, "arrays": {}, "metadata": {}}
    return {"scalars": {}, "arrays": {}, "metadata": sections}


def _section(dice: random.Random, name: str) -> dict[str, Any]:
    scalars: dict[str, Any] = {key: dice.gauss(1, 0.3) for key in dice.sample(QUANTITIES, 8)}
    scalars["numSources"] = dice.randrange(20_000)
    scalars["converged"] = dice.random() < 0.9
    arrays = {
        f"{name}StartCpuTime": [dice.uniform(0, 900)],
        f"{name}EndCpuTime": [dice.uniform(0, 900)],
        f"{name}EndMaxResidentSetSize": [dice.randrange(4 * 10**8, 4 * 10**9)],
        "residuals": [dice.gauss(0, 0.1) for _ in range(6)],
        "counts": [dice.randrange(5000) for _ in range(5)],
    }
    return {"scalars": scalars, "arrays": arrays, "metadata": {}}


def _quantum_section(process: Process, outputs: list[str], caveats: int, failed: bool) -> dict[str, Any]:
    dice = process.dice
    arrays: dict[str, list[Any]] = {}
    for stage, seconds in (("prep", 0.0), ("init", 0.02), ("start", 0.3), ("end", dice.uniform(1, 60))):
        process.passes(seconds)
        arrays |= {
            f"{stage}Utc": [process.clock.isoformat(timespec="microseconds")],
            f"{stage}CpuTime": [process.cpu],
            f"{stage}UserTime": [process.cpu * 0.9],
            f"{stage}SystemTime": [process.cpu * 0.1],
            f"{stage}MaxResidentSetSize": [process.memory],
            f"{stage}MinorPageFaults": [dice.randrange(10**6)],
            f"{stage}MajorPageFaults": [dice.randrange(100)],
            f"{stage}BlockInputs": [dice.randrange(10**5)],
            f"{stage}BlockOutputs": [dice.randrange(10**5)],
            f"{stage}VoluntaryContextSwitches": [dice.randrange(10**4)],
            f"{stage}InvoluntaryContextSwitches": [dice.randrange(10**4)],
        }
    arrays["outputs"] = outputs
    scalars: dict[str, Any] = {"__version__": 1, "nodeName": f"node{dice.randrange(400):03}"}
    nested: dict[str, Any] = {}
    if not failed:
        scalars["caveats"] = caveats
        times = {key: dice.random() for key in ("time_in_put", "time_in_get", "time_in_ingest")}
        counts = {"n_get": dice.randrange(30), "n_put": len(outputs), "n_ingest": 0}
        nested["butler_metrics"] = {"scalars": times | counts, "arrays": {}, "metadata": {}}
    return {"scalars": scalars, "arrays": arrays, "metadata": nested}
