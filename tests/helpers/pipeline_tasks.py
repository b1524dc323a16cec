"""Plain tasks like those of `oracle.real_tasks`, and their instrument."""

# ruff: noqa: RUF012

from __future__ import annotations

from typing import Any

from aggregator.execution.plain_tasks import Connection

_DETECTOR = ("visit", "detector")
_MAPPING = "StructuredDataDict"


class TakeTask:
    """Takes an image: there is nothing that it reads."""

    dimensions = _DETECTOR
    outputs = {"raw": Connection("raw", _MAPPING, _DETECTOR)}

    def __init__(self, config: dict[str, Any], init_inputs: dict[str, Any]) -> None:
        pass

    def run_quantum(self, butler: Any, inputs: Any, outputs: Any) -> None:
        butler.put({"value": 10 * butler.data_id["visit"] + butler.data_id["detector"]}, outputs.raw)


class ExtraTask:
    """Makes something for each detector."""

    dimensions = ("detector",)
    outputs = {"extra": Connection("extra", _MAPPING, ("detector",))}

    def __init__(self, config: dict[str, Any], init_inputs: dict[str, Any]) -> None:
        pass

    def run_quantum(self, butler: Any, inputs: Any, outputs: Any) -> None:
        butler.put({"detector": butler.data_id["detector"]}, outputs.extra)


class StepTask:
    """Reads an image."""

    dimensions = ("instrument", "visit", "detector")
    inputs = {"raw": Connection("raw", _MAPPING, _DETECTOR, deferred=True)}
    prerequisites = {"extra": Connection("extra", _MAPPING, ("detector",), minimum=0)}
    init_outputs = {"schema": Connection("{pre}_schema", _MAPPING)}
    outputs = {
        "one": Connection("{pre}_one", _MAPPING, _DETECTOR),
        "two": Connection("{pre}_two", _MAPPING, _DETECTOR),
    }
    config = {"scale": 2.0, "mode": {}, "nested": {"deep": 1}, "connections": {"pre": "x"}}

    def __init__(self, config: dict[str, Any], init_inputs: dict[str, Any]) -> None:
        self.config = config
        self.schema = {"columns": ["a", "b"]}

    def run_quantum(self, butler: Any, inputs: Any, outputs: Any) -> None:
        mode = self.config["mode"].get("{visit}/{detector}".format(**butler.data_id), "ok")
        if mode == "fail":
            raise ValueError("told to fail")
        value = butler.get(inputs.raw).get()["value"]
        butler.put({"v": value * self.config["scale"]}, outputs.one)
        butler.put({"n": 0}, outputs.two)


class JoinTask:
    """Joins what there is of a visit."""

    dimensions = ("instrument", "visit")
    init_inputs = {"schema": Connection("{pre}_schema", _MAPPING)}
    inputs = {
        "ones": Connection("{pre}_one", _MAPPING, _DETECTOR, multiple=True),
        "twos": Connection("{pre}_two", _MAPPING, _DETECTOR, multiple=True, minimum=2),
    }
    outputs = {"total": Connection("{pre}_total", _MAPPING, ("visit",))}
    config = {"connections": {"pre": "x"}}

    def __init__(self, config: dict[str, Any], init_inputs: dict[str, Any]) -> None:
        assert init_inputs["schema"] == {"columns": ["a", "b"]}

    def run_quantum(self, butler: Any, inputs: Any, outputs: Any) -> None:
        butler.put({"sum": sum(butler.get(each)["v"] for each in inputs.ones)}, outputs.total)


class CoaddTask:
    """Adds what overlaps a patch."""

    dimensions = ("skymap", "tract", "patch", "band")
    inputs = {"ones": Connection("{pre}_one", _MAPPING, _DETECTOR, multiple=True, deferred=True)}
    outputs = {"coadd": Connection("{pre}_coadd", _MAPPING, ("skymap", "tract", "patch", "band"))}
    config = {"connections": {"pre": "x"}}

    def __init__(self, config: dict[str, Any], init_inputs: dict[str, Any]) -> None:
        pass

    def run_quantum(self, butler: Any, inputs: Any, outputs: Any) -> None:
        butler.put({"sum": sum(butler.get(each).get()["v"] for each in inputs.ones)}, outputs.coadd)


class SinkTask:
    """Reads all, and writes nothing."""

    dimensions = ("instrument",)
    inputs = {"totals": Connection("{pre}_total", _MAPPING, ("visit",), multiple=True)}
    config = {"connections": {"pre": "x"}}

    def __init__(self, config: dict[str, Any], init_inputs: dict[str, Any]) -> None:
        pass

    def run_quantum(self, butler: Any, inputs: Any, outputs: Any) -> None:
        butler.get(inputs)


class Cam:
    """The instrument."""

    @staticmethod
    def getName() -> str:
        return "Cam"

    def applyConfigOverrides(self, name: str, config: Any) -> None:
        """Have no settings of its own; only the reference asks every instrument."""
