"""Mock tasks that succeed, fail, stop early and leave awkward metadata just as their configuration says."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from lsst.pex.config import DictField, Field
from lsst.pipe.base import (
    AnnotatedPartialOutputsError,
    NoWorkFound,
    UnprocessableDataError,
    UpstreamFailureNoWorkFound,
)
from lsst.pipe.base.tests.mocks import (
    DynamicTestPipelineTask,
    DynamicTestPipelineTaskConfig,
    MockAlgorithmError,
)

current_pass = 0
"""Which pass over the graph is under way; set by the execution."""

construction_fails = False
"""Whether the next task to be constructed shall fail in its constructor; set by the execution."""

NO_WORK: dict[str, type[BaseException]] = {
    "nowork": NoWorkFound,
    "unprocessable": UnprocessableDataError,
    "upstream": UpstreamFailureNoWorkFound,
}


class AwkwardError(RuntimeError):
    """A failure whose message needs every kind of escaping."""


class OracleTaskConfig(
    DynamicTestPipelineTaskConfig, pipelineConnections=DynamicTestPipelineTaskConfig.ConnectionsClass
):
    """What the mock task's configuration adds: what is to happen to which quantum."""

    plan = DictField[str, str](
        doc="Behaviour in each pass, comma-separated, by data ID ('visit=101,detector=2'); '' is the rest.",
        keytype=str,
        itemtype=str,
        default={},
    )
    awkward_metadata = Field[bool](doc="Whether to leave non-finite numbers.", dtype=bool, default=False)


def behaviour(config: OracleTaskConfig, data_id: dict[str, Any], number: int) -> str:
    """Return what the plan says about a quantum in a pass (0, 1, ...); the last word holds on."""
    words = config.plan.get("", "ok")
    for key, value in config.plan.items():
        conditions = [item.split("=") for item in key.split(",") if item]
        if conditions and all(str(data_id.get(name)) == wanted for name, wanted in conditions):
            words = value
    steps = words.split(",")
    return steps[min(number, len(steps) - 1)]


class OracleTask(DynamicTestPipelineTask):
    """A mock task that behaves as planned."""

    ConfigClass: ClassVar[type] = OracleTaskConfig
    _DefaultName = "oracleTask"
    config: OracleTaskConfig

    def __init__(self, **kwargs: Any) -> None:
        if construction_fails:
            raise AwkwardError("The constructor failed.")
        super().__init__(**kwargs)

    def runQuantum(self, butlerQC: Any, inputRefs: Any, outputRefs: Any) -> None:
        data_id = dict(butlerQC.quantum.dataId.mapping)
        action = behaviour(self.config, data_id, current_pass)
        self._leave_metadata(action)
        self.log.info("Behaviour of %s in pass %d: %s", data_id, current_pass, action)
        if action == "raise":
            raise AwkwardError(f'Failed on {data_id}: "quoted", back\\slash,\nnew line, \t tab, µ ☃ 🔭')
        if action in NO_WORK:
            raise NO_WORK[action](f"Nothing to do for {data_id}.")
        outputs = sorted(outputRefs, key=lambda item: item[0])
        if action == "none":
            outputs = []
        elif action in ("some", "late", "partial"):
            outputs = outputs[:1]
        super().runQuantum(butlerQC, inputRefs, outputs)
        if action == "late":
            raise ValueError(f"Failed on {data_id} after its first output.")
        if action == "partial":
            original = MockAlgorithmError(f"Only the first output of {data_id} could be made.")
            raise AnnotatedPartialOutputsError.annotate(original, self, log=self.log) from original

    def _leave_metadata(self, action: str) -> None:
        self.metadata["action"] = action
        self.metadata["unicode"] = 'µ ☃ 🔭 \u2028 \x7f "quoted" back\\slash\nnew line'
        self.metadata["int_value"] = 7
        self.metadata["big_int"] = 2**53 + 1
        self.metadata["small"] = 5e-324
        self.metadata["whole_float"] = 2.0
        self.metadata["flag"] = True
        self.metadata["numeric_string"] = "12"
        self.metadata["empty_list"] = []
        self.metadata["flags"] = [True, False]
        self.metadata["words"] = ["a", "", "NaN", "Infinity"]
        self.metadata["sub.level.name"] = "nested"
        self.metadata.add("appended", 1)
        self.metadata.add("appended", 2)
        if self.config.awkward_metadata:
            self.metadata["plain_nan"] = math.nan
            self.metadata["plus_inf"] = math.inf
            self.metadata["minus_inf"] = -math.inf
            self.metadata["float_list"] = [1.0, math.nan, -2.5, math.inf, -math.inf]
            self.metadata["sub.level.nan"] = math.nan
