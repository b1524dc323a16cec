"""Times and resources of this process at the stages of a quantum (execution-files.md section 1)."""

from __future__ import annotations

import datetime
import resource
import socket
import time
from typing import Any, Final

PREPARATION: Final = "prep"
"""The executor begins."""
INITIALISATION: Final = "init"
"""Inputs are there; the task is made."""
RUN: Final = "start"
"""The task is made; it runs."""
END: Final = "end"
"""It has run."""

_VERSION: Final = 1
_KILOBYTE: Final = 1024


def section() -> dict[str, Any]:
    """Return the section ``quantum`` of task metadata, before the first stage."""
    return {
        "scalars": {"__version__": _VERSION, "nodeName": socket.gethostname()},
        "arrays": {},
        "metadata": {},
    }


def note(quantum_section: dict[str, Any], stage: str) -> None:
    """Add what this process has used until a stage."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    values = {
        "Utc": datetime.datetime.now(datetime.UTC).isoformat(),
        "CpuTime": time.process_time(),
        "UserTime": usage.ru_utime,
        "SystemTime": usage.ru_stime,
        "MaxResidentSetSize": usage.ru_maxrss * _KILOBYTE,
        "MinorPageFaults": usage.ru_minflt,
        "MajorPageFaults": usage.ru_majflt,
        "BlockInputs": usage.ru_inblock,
        "BlockOutputs": usage.ru_oublock,
        "VoluntaryContextSwitches": usage.ru_nvcsw,
        "InvoluntaryContextSwitches": usage.ru_nivcsw,
    }
    quantum_section["arrays"].update({f"{stage}{name}": [value] for name, value in values.items()})
