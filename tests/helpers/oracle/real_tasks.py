"""Tasks of the reference with real storage classes, which do as they are told."""

from __future__ import annotations

import os
import pathlib
import signal
import time
from typing import Any

import lsst.pex.config as pexConfig
import lsst.pipe.base as pb
from lsst.pipe.base import connectionTypes as cT

_DIMENSIONS = ("visit", "detector")


class OddError(pb.AlgorithmError):
    """An error with metadata."""

    @property
    def metadata(self) -> dict[str, Any]:
        return {"badness": 3, "nested": {"a": 1}}


class StepConnections(
    pb.PipelineTaskConnections,
    dimensions=("instrument", "visit", "detector"),
    defaultTemplates={"pre": "x"},
):
    raw = cT.Input(name="raw", storageClass="StructuredDataDict", dimensions=_DIMENSIONS, deferLoad=True)
    extra = cT.PrerequisiteInput(
        name="ref", storageClass="StructuredDataDict", dimensions=("htm7",), multiple=True, minimum=0
    )
    schema = cT.InitOutput(name="{pre}_schema", storageClass="StructuredDataDict")
    one = cT.Output(name="{pre}_one", storageClass="StructuredDataDict", dimensions=_DIMENSIONS)
    two = cT.Output(name="{pre}_two", storageClass="StructuredDataDict", dimensions=_DIMENSIONS)


class StepConfig(pb.PipelineTaskConfig, pipelineConnections=StepConnections):
    mode = pexConfig.DictField(keytype=str, itemtype=str, default={}, doc="what to do, by visit/detector")
    scale = pexConfig.Field(dtype=float, default=2.0, doc="factor")
    marks = pexConfig.Field(dtype=str, default="", doc="directory: a mode 'a|b' is a once, then b")


class StepTask(pb.PipelineTask):
    ConfigClass = StepConfig
    _DefaultName = "step"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.schema = {"columns": ["a", "b"]}

    def runQuantum(self, butlerQC: Any, inputRefs: Any, outputRefs: Any) -> None:
        data_id = butlerQC.quantum.dataId
        name = f"{data_id['visit']}/{data_id['detector']}"
        mode = self._chosen(dict(self.config.mode).get(name, "ok"), name.replace("/", "-"))
        self.log.info("mode %s", mode)
        self.metadata["mode"] = mode
        inputs = butlerQC.get(inputRefs)
        value = inputs["raw"].get()["value"]
        result = pb.Struct(one={"v": value * self.config.scale}, two={"n": len(inputs.get("extra", ()))})
        self._do(mode, butlerQC, outputRefs, result)

    def _chosen(self, mode: str, name: str) -> str:
        """Return what comes next: each step of a mode leaves a mark."""
        steps = mode.split("|")
        for number, step in enumerate(steps):
            mark = pathlib.Path(self.config.marks, f"{name}-{number}")
            if number == len(steps) - 1 or not mark.exists():
                if len(steps) > 1:
                    mark.touch()
                return step
        raise AssertionError(mode)

    def _do(self, mode: str, butlerQC: Any, outputRefs: Any, result: pb.Struct) -> None:
        one = pb.Struct(one=result.one)
        puts = {
            "ok": result,
            "nowork_after_put": result,
            "one": one,
            "fail": one,
            "partial": one,
            "partial_unchained": one,
            "kill": one,
        }
        if mode in puts:
            butlerQC.put(puts[mode], outputRefs)
        match mode:
            case "ok" | "one":
                pass
            case "fail":
                raise ValueError("told to fail")
            case "repeatable":
                raise pb.RepeatableQuantumError("repeatable")
            case "invalid":
                raise pb.InvalidQuantumError("invalid")
            case "nowork" | "nowork_after_put":
                raise pb.NoWorkFound("nothing to do")
            case "upstream":
                raise pb.UpstreamFailureNoWorkFound("upstream")
            case "unprocessable":
                raise pb.UnprocessableDataError("bad data")
            case "partial":
                try:
                    raise OddError("annotated")
                except OddError as exc:
                    raise pb.AnnotatedPartialOutputsError.annotate(exc, self, None, log=self.log) from exc
            case "partial_unchained":
                raise pb.AnnotatedPartialOutputsError("not annotated")
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exit":
                os._exit(9)
            case "sleep":
                time.sleep(600)
            case "sysexit":
                raise SystemExit(7)
            case "kbd":
                raise KeyboardInterrupt
            case _:
                raise AssertionError(mode)


class JoinConnections(
    pb.PipelineTaskConnections, dimensions=("instrument", "visit"), defaultTemplates={"pre": "x"}
):
    schema = cT.InitInput(name="{pre}_schema", storageClass="StructuredDataDict")
    ones = cT.Input(
        name="{pre}_one", storageClass="StructuredDataDict", dimensions=_DIMENSIONS, multiple=True
    )
    twos = cT.Input(
        name="{pre}_two", storageClass="StructuredDataDict", dimensions=_DIMENSIONS, multiple=True, minimum=2
    )
    total = cT.Output(name="{pre}_total", storageClass="StructuredDataDict", dimensions=("visit",))


class JoinConfig(pb.PipelineTaskConfig, pipelineConnections=JoinConnections):
    pass


class JoinTask(pb.PipelineTask):
    ConfigClass = JoinConfig
    _DefaultName = "join"

    def run(self, ones: list[Any], twos: list[Any]) -> pb.Struct:
        return pb.Struct(total={"sum": sum(one["v"] for one in ones), "n": len(twos)})


class SinkConnections(pb.PipelineTaskConnections, dimensions=("instrument",), defaultTemplates={"pre": "x"}):
    totals = cT.Input(
        name="{pre}_total", storageClass="StructuredDataDict", dimensions=("visit",), multiple=True
    )


class SinkConfig(pb.PipelineTaskConfig, pipelineConnections=SinkConnections):
    pass


class SinkTask(pb.PipelineTask):
    """A task without outputs."""

    ConfigClass = SinkConfig
    _DefaultName = "sink"

    def runQuantum(self, butlerQC: Any, inputRefs: Any, outputRefs: Any) -> None:
        butlerQC.get(inputRefs)


class CoaddConnections(
    pb.PipelineTaskConnections,
    dimensions=("skymap", "tract", "patch", "band"),
    defaultTemplates={"pre": "x"},
):
    ones = cT.Input(
        name="{pre}_one",
        storageClass="StructuredDataDict",
        dimensions=_DIMENSIONS,
        multiple=True,
        deferLoad=True,
    )
    coadd = cT.Output(
        name="{pre}_coadd", storageClass="StructuredDataDict", dimensions=("skymap", "tract", "patch", "band")
    )


class CoaddConfig(pb.PipelineTaskConfig, pipelineConnections=CoaddConnections):
    pass


class CoaddTask(pb.PipelineTask):
    ConfigClass = CoaddConfig
    _DefaultName = "coadd"

    def run(self, ones: list[Any]) -> pb.Struct:
        return pb.Struct(coadd={"sum": sum(one.get()["v"] for one in ones), "n": len(ones)})
