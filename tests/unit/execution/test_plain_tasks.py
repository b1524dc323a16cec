from __future__ import annotations

import dataclasses
import types
from typing import Any, ClassVar

import pytest
from aggregator.butler import dataset_refs
from aggregator.butler.dimensions import universe
from aggregator.execution import connected_refs, plain_tasks, task_classes, task_errors
from aggregator.schemas.graphs import task_definitions
from aggregator.storage import errors

DATA_ID = dataset_refs.DataId(universe.Group((), (), (), (), (), (), None), ())


class Sum:
    inputs: ClassVar = {"terms": plain_tasks.Connection("terms", "int", multiple=True, minimum=2)}
    prerequisites: ClassVar = {"table": plain_tasks.Connection("table", "dict", deferred=True, minimum=0)}
    outputs: ClassVar = {"total": plain_tasks.Connection("total", "int")}
    config: ClassVar = {"factor": 2, "names": []}

    def __init__(self, config: Any, init_inputs: Any) -> None:
        self.config = config
        self.metadata = {"n": 3, "list": [1.5], "deep": {"er": "text"}, "odd": None}

    def run_quantum(self, butler: Any, inputs: Any, outputs: Any) -> None:
        butler.append((inputs, outputs))


@dataclasses.dataclass(frozen=True)
class Settings:
    factor: int = 2


class Configured(Sum):
    config = Settings


def maker(kind: type = Sum, config: str = "") -> Any:
    name = f"{kind.__module__}.{kind.__qualname__}"
    return task_classes.load(task_definitions.TaskDefinition("sum", name, config, {}, {}, {}, {}, {}))


def test_a_task_gets_what_it_asks_for() -> None:
    butler: list[Any] = []
    task, ref = maker(), types.SimpleNamespace(id=1)
    inputs = task.connect_inputs({"terms": [1, 2], "table": [ref], "stranger": [3]})
    outputs = task.connect_outputs({"total": [4], "_log": [5]})
    task.make({}).run(butler, inputs, outputs)
    [(given, results)] = butler
    assert list(results) == [("total", 4)]
    assert given.terms == [1, 2]
    assert isinstance(given.table, connected_refs.DeferredRef)
    assert given.table.id == 1
    assert sorted(given.keys()) == ["table", "terms"]
    assert not hasattr(task.connect_inputs({"terms": []}), "table")


def test_metadata_are_sorted_by_kind() -> None:
    assert maker().make({}).metadata()["metadata"]["sum"] == {
        "scalars": {"n": 3, "odd": "None"},
        "arrays": {"list": [1.5]},
        "metadata": {"deep": {"scalars": {"er": "text"}, "arrays": {}, "metadata": {}}},
    }


@pytest.mark.parametrize(("kind", "expected"), [(Sum, {"factor": 5, "names": []}), (Configured, Settings(5))])
def test_configurations_are_read_and_not_carried_out(kind: type, expected: Any) -> None:
    task = maker(kind, "# text\nconfig.factor = 5\n")
    assert task.make({})._task.config == expected


@pytest.mark.parametrize(
    "text", ["config.factor = len('x')", "import os", "factor = 3", "config.a.b = 3", "("]
)
def test_other_configurations_are_refused(text: str) -> None:
    with pytest.raises(errors.RefusedError, match="build the graph again"):
        maker(Sum, text)


def test_too_few_inputs_are_no_work() -> None:
    with pytest.raises(task_errors.NoWork):
        maker().adjust({"terms": [1]}, {}, DATA_ID)
    assert maker().adjust({"terms": [1, 2]}, {"total": [3]}, DATA_ID) == (
        {"terms": [1, 2]},
        {"total": [3]},
    )


@pytest.mark.parametrize("name", ["no.such.module.Task", "json.JSONDecoder", "json.Nothing"])
def test_what_is_no_task_is_refused(name: str) -> None:
    with pytest.raises(errors.RefusedError, match="Task 'sum'"):
        task_classes.load(task_definitions.TaskDefinition("sum", name, "", {}, {}, {}, {}, {}))


def test_exceptions_are_known_by_their_names() -> None:
    kinds = {
        name: type(name, (BaseException,), {})
        for name in ("NoWorkFound", "UpstreamFailureNoWorkFound", "AnnotatedPartialOutputsError")
    }
    special = type("Special", (kinds["UpstreamFailureNoWorkFound"],), {})
    assert task_errors.no_work_caveats(kinds["NoWorkFound"]()) == 4
    assert task_errors.no_work_caveats(special()) == 20
    assert task_errors.no_work_caveats(ValueError()) is None
    assert task_errors.is_partial(kinds["AnnotatedPartialOutputsError"]())
    assert task_errors.exit_code(task_errors.InvalidQuantum()) == 21
    assert task_errors.exit_code(ValueError()) == 1


def test_names_of_exceptions() -> None:
    assert task_errors.type_name(ValueError()) == "ValueError"
    whole = task_errors.type_name(task_errors.Repeatable())
    assert whole == "aggregator.execution.task_errors.Repeatable"
