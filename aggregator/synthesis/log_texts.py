"""Log files (execution-files.md section 2.1) of about the size and variety that real ones have."""

import functools
from collections.abc import Sequence
from typing import Final

import msgspec

_SOURCES: Final = (
    ("detrend", "detrend.py", "run"),
    ("detrend.overscan", "overscan.py", "fitOverscan"),
    ("detrend.assemble", "assembly.py", "assemble"),
    ("psf", "psf_model.py", "fit"),
    ("astrometry", "astrometry.py", "solve"),
    ("astrometry.match", "matching.py", "matchReference"),
    ("photometry", "zero_point.py", "zeroPoint"),
    ("measurement", "plugins.py", "runPlugins"),
    ("deblend", "deblending.py", "deblendParents"),
    ("background", "background.py", "subtract"),
    ("resample", "resampling.py", "resample"),
    ("io", "inputs.py", "read"),
)
"""Logger suffix, file and function of the code that is said to have logged."""

_MESSAGES: Final = (
    "Fitted %d stars with residual %.6f +/- %.6f mag after %d iterations",
    "Rejected %d candidates: fraction %.5f saturated, %.5f near the edge, %d with bad shapes",
    "Measured background level in %d bins: %.5f adu with rms %.5f; %d bins without pixels",
    "Matched %d reference objects within %.3f arcsec; scatter %.5f arcsec in RA; %d outliers",
    "Peak memory so far %d kB; load %.3f, %.3f; %d involuntary context switches",
    "Plugin shapeMoments failed on source %d: centroid (%.3f, %.3f) is outside of footprint %d",
    "Wavefront of %d donuts: Zernike coefficients %.7f, %.7f in the %d most significant modes",
    "Interpolated %d defects covering %.4f of the image (%.4f before); %d columns are bad",
    "Zero point from %d stars: %.5f +/- %.6f mag; %d clipped at 3 σ",
    "Kernel of %d components has condition number %.3e and residual %.5f at spatial order %d",
    "Read %d rows in %.4f s (%.1f MB/s) from %d row groups",
    "Amplifier %d: gain %.6f e-/adu, read noise %.4f e-, %d saturated pixels",
    "Cosmic rays: %d found, threshold %.3f σ, mean size %.2f pixels, %d merged with others",
    "Aperture correction from %d stars: %.6f +/- %.6f at degree %d",
    "Deblended parent of %d pixels into components with flux ratio %.4f and χ² %.3f after %d steps",
    "Resampled %d pixels with scale %.6f arcsec, PSF width %.4f pixels, onto cell %d",
    "Sky frame scaled for %d amplifiers by %.5f +/- %.5f after %d rejections",
    "Reference catalogue has %d objects brighter than %.3f mag within %.4f degrees of field %d",
)
"""What is logged; each takes two integers and two floats in this order: d f f d."""

_WARNINGS: Final = (1, 5, 7)
"""Messages that are warnings."""

_EXECUTOR: Final = ("executor", "quantum_executor.py", "execute")
_MIN_RECORDS: Final = 3
_REST: Final = 450
"""Typical size of what a log holds besides its records, in bytes."""


def _record(name: str, file: str, function: str, message: str, line: int, level: int) -> str:
    """Return a record up to its process, as a format whose first slot is the time."""
    level_name = {20: "INFO", 30: "WARNING", 40: "ERROR"}[level]
    text = msgspec.json.encode(message).decode()
    return (
        f'{{"name":"synthetic.{name}","asctime":"%sZ","message":{text},"levelno":{level},'
        f'"levelname":"{level_name}","filename":"{file}",'
        f'"pathname":"/opt/synthetic/lib/python3.11/site-packages/synthetic/{name.replace(".", "/")}/{file}",'
        f'"lineno":{line},"funcName":"{function}"'
    )


@functools.cache
def formats(label: str) -> tuple[str, ...]:
    """Return formats for the records of a task; each takes a time and what a message takes."""
    records = []
    for number, message in enumerate(_MESSAGES):
        for shift in (0, 5):
            suffix, file, function = _SOURCES[(number + shift) % len(_SOURCES)]
            level = 30 if number in _WARNINGS and shift else 20
            line = 40 + (number * 37 + shift * 101 + len(label) * 13) % 900
            records.append(_record(f"{label}.{suffix}", file, function, message, line, level))
    return tuple(records)


@functools.cache
def record_size(label: str) -> float:
    """Return the mean size of a record of a task in bytes, without what depends on the quantum."""
    each = [
        len((text % ("2026-03-02T00:00:00.000000", 1234, 0.5, 123.4, 45)).encode()) for text in formats(label)
    ]
    return sum(each) / len(each)


def tail(process: int, label: str, data_id: str, run: str) -> str:
    """Return the end that all records of an attempt have in common."""
    mdc = msgspec.json.encode({"LABEL": f"{label}:{data_id}", "RUN": run}).decode()
    return f',"process":{process},"processName":"MainProcess","MDC":{mdc}}}'


def count_records(label: str, size: float, common: int) -> int:
    """Return how many records make a log of a size, given the size of their common end."""
    return max(_MIN_RECORDS, round((size - _REST) / (record_size(label) + common + 1)))


@functools.cache
def _frame(label: str) -> tuple[str, str, str]:
    """Return formats of the first record, and of the last one of a success and of a failure."""
    name = (f"{label}.{_EXECUTOR[0]}", *_EXECUTOR[1:])
    return (
        _record(*name, f"Preparing execution of quantum for label={label} dataId=%s.", 329, 20),
        _record(*name, f"Execution of task '{label}' on quantum %s took %.3f seconds", 390, 20),
        _record(*name, f"Execution of task '{label}' on quantum %s failed. Exception %s: %s", 402, 40),
    )


def records(
    label: str,
    data_id: str,
    times: Sequence[str],
    values: Sequence[tuple[int, int, int, float, float]],
    ending: str,
    seconds: float,
    failure: tuple[str, str] | None,
) -> str:
    """Return the JSON list of the records of one attempt.

    Parameters
    ----------
    label, data_id
        The task, and the quantum's data ID as text.
    times
        Time of each record, the first and the last one included.
    values
        Format, integers and floats of each record but the first and the last one.
    ending
        The common end of all records (`tail`).
    seconds
        Time that the attempt took.
    failure
        Type and message of the exception that ended it, if one did, as JSON texts without their quotes.
    """
    first, success, failed = _frame(label)
    shown = msgspec.json.encode(data_id).decode()[1:-1]
    templates = formats(label)
    lines = [first % (times[0], shown)]
    lines += [
        templates[kind] % (time, a, x, y, b)
        for time, (kind, a, b, x, y) in zip(times[1:-1], values, strict=True)
    ]
    if failure is None:
        lines.append(success % (times[-1], shown, seconds))
    else:
        lines.append(failed % (times[-1], shown, *failure))
        trace = (
            f'Traceback (most recent call last):\\n  File \\"/opt/synthetic/{label}.py\\", line 112, in run'
            f"\\n    self.fit(inputs)\\n{failure[0]}: {failure[1]}"
        )
        return (
            "["
            + (ending + ",").join(lines)
            + ending.replace(',"MDC"', f',"exc_info":"{trace}","MDC"', 1)
            + "]"
        )
    return "[" + (ending + ",").join(lines) + ending + "]"
