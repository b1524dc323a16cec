"""Tasks made of a policy and a function: what they read and write, and what can't be a task."""

from __future__ import annotations

import functools
import pathlib
import textwrap
from typing import Any

import pytest
from aggregator.execution import task_classes
from aggregator.execution.pipelines import task_configs, yaml_pipelines
from aggregator.stages import item_functions, policy_task
from aggregator.storage import errors

from aggregator import stages
from tests.helpers import stage_storages, stage_tasks

T = "datasetType: t, storageClass: S"
MANY = f"{{{T}, datasetId: {{fromInputDatasets: true}}}}"
WITH_KEYS = f"{{{T}, datasetId: {{fromInputDatasets: true, fromJobIdentity: [visit]}}}}"
OPTIONAL = f"{{{T}, required: false, datasetId: {{fromJobIdentity: [visit]}}}}"
SET = f"{{{T}, datasetId: {{fromJobIdentity: [visit], set: {{field: deep}}}}}}"
TWICE = f"{{{T}, datasetId: {{fromJobIdentity: [visit], fromClipboard: [visit]}}}}"
FILE = "{type: T, pythonType: t.T, storagePolicy: {storage: XmlStorage, location: here}}"


def item(text: str = "", group: str = "inputItems") -> str:
    other = "outputItems" if group == "inputItems" else "inputItems"
    whole = "{datasetType: t, storageClass: NumpyArray, datasetId: {fromJobIdentity: [visit]}}"
    of_other = whole.replace(": t,", ": u,")
    return f"parameters:\n  {group}:\n    x: {text or whole}\n  {other}:\n    y: {of_other}\n"


def nothing(**_: Any) -> None:
    """Do nothing."""


def test_dimensions_and_connections() -> None:
    entry = yaml_pipelines.TaskEntry("tests.helpers.stage_tasks.Quality", ())
    definition, _ = task_configs.configured("quality", entry, task_configs.Parameters({}), None)
    maker = task_classes.load(definition)
    assert maker.dimensions == ("visit", "detector")
    image, quality = maker.connections["inputs"]["image"], maker.connections["outputs"]["quality"]
    assert (image.dataset_type, image.storage_class) == ("image", "NumpyArray")
    assert image.dimensions == ("visit", "detector")
    assert (quality.dataset_type, quality.dimensions, image.multiple) == (
        "quality",
        ("visit", "detector"),
        False,
    )
    # The graph keeps the policy as it was.
    assert "fromClipboard" in definition.config_text


def test_items_of_any_number() -> None:
    groups = stage_tasks.Total.connections(stage_tasks.Total.config)
    numbers = groups["inputs"]["numbers"]
    assert numbers.multiple
    assert numbers.dimensions == ("visit", "detector")
    assert stage_tasks.Total.dimensions(stage_tasks.Total.config) == ("visit",)


def test_optional_item() -> None:
    text = item(OPTIONAL)
    made = stages.task(stage_storages.policy(text), nothing)
    assert made.connections(made.config)["inputs"]["x"].minimum == 0


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (item("{datasetType: t, datasetId: {fromJobIdentity: [visit]}}"), "storageClass: is missing"),
        (item("{datasetType: t, storageClass: S}"), "datasetId: is missing"),
        (item("{storageClass: S, datasetId: {fromJobIdentity: [visit]}}"), "datasetType: is missing"),
        (
            item(MANY),
            "the keys of one dataset",
        ),
        (
            item(WITH_KEYS, "outputItems"),
            "fromInputDatasets",
        ),
        (
            item(SET),
            "a quantum reads and writes datasets",
        ),
        (
            item(FILE),
            "a quantum reads and writes datasets",
        ),
        (
            item(TWICE),
            "mean the same",
        ),
        (
            item().replace("    y: ", "    x: "),
            "parameters.outputItems.x: is both read and written",
        ),
        (
            item().replace(": u", ": t"),
            "parameters.outputItems.y: is of dataset type 't', which item x reads; write another one.",
        ),
        (
            item(group="outputItems").replace("  inputItems", f"    z: {OPTIONAL}\n  inputItems"),
            "parameters.outputItems.z: is of dataset type 't', as item x is; write another one.",
        ),
        ("parameters: {inputItems: {}}", "no outputItems"),
        ("input: {parameters: {}}", "output: is missing"),
        (item() + "strange: 1\n", "strange"),
    ],
)
def test_what_is_no_task(text: str, problem: str) -> None:
    with pytest.raises(errors.RefusedError) as caught:
        stages.task(stage_storages.policy(text), nothing)
    assert problem in str(caught.value)


def two(x: Any, y: Any = None) -> None:
    """Have another parameter than most policies here."""


@pytest.mark.parametrize(
    ("text", "function", "problem"),
    [
        (item(), two, ""),
        (item(OPTIONAL), two, "two can't be called with items none (missing a required argument: 'x')"),
        (item().replace("    x:", "    z:"), two, "two can't be called with items z ("),
        (item(), None, "policy.yaml:3: parameters.inputItems: None is a NoneType, and no function"),
        (item(), "os.sep", "'os.sep' is a str, and no function"),
        (item(), print, "print can't be called with items x ("),
        (item(), functools.partial(two, y=1), ""),
    ],
)
def test_what_can_be_called(text: str, function: Any, problem: str) -> None:
    if not problem:
        assert issubclass(stages.task(stage_storages.policy(text), function), policy_task.PolicyTask)
        return
    with pytest.raises(errors.RefusedError) as caught:
        stages.task(stage_storages.policy(text), function)
    assert problem in str(caught.value)


def test_function_that_returns_nothing(caplog: pytest.LogCaptureFixture) -> None:
    assert item_functions.called(nothing, {"a": 1}, ["a", "b", "c"]) == {}
    assert "test_policy_task.nothing has returned nothing: no b, c." in caplog.text
    caplog.clear()
    assert item_functions.called(nothing, {"a": 1}, ["a"]) == {}
    assert not caplog.records


def test_file_is_beside_the_function(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "numbers.yaml").write_text(item())
    (tmp_path / "stage_of_mine.py").write_text(
        textwrap.dedent(
            """\
            from aggregator import stages
            def count(x): return x
            Count = stages.task("numbers.yaml", count)
            """
        )
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert task_classes.imported("stage_of_mine.Count", "here").__module__ == "stage_of_mine"
    with pytest.raises(errors.RefusedError, match=r"none\.yaml"):
        stages.task("none.yaml", nothing)


@pytest.mark.parametrize(
    ("result", "inputs", "outputs", "expected"),
    [
        (None, {"a": 1}, ["b"], {}),
        (3, {"a": 1}, ["b"], {"b": 3}),
        ({"b": 3}, {"a": 1}, ["b"], {"b": 3}),
        ({"x": 3}, {"a": 1}, ["b"], {"b": {"x": 3}}),
        ({"b": 3, "c": None}, {"a": 1}, ["b", "c"], {"b": 3, "c": None}),
        ({"c": 4}, {"a": 1}, ["a", "b", "c"], {"c": 4}),
        ({}, {"a": 1}, ["a"], {}),
        ({"a": 2}, {"a": 1}, ["a"], {"a": 2}),
    ],
)
def test_results(result: Any, inputs: dict[str, Any], outputs: list[str], expected: dict[str, Any]) -> None:
    assert item_functions.called(lambda **_: result, inputs, outputs) == expected


@pytest.mark.parametrize("result", [3, {"x": 1}, [1, 2]])
def test_results_that_nobody_asked_for(result: Any) -> None:
    with pytest.raises(TypeError, match="b, c"):
        item_functions.called(lambda **_: result, {"a": 1}, ["b", "c"])


@pytest.mark.parametrize("name", ["nowhere.function", "os.nothing", "function"])
def test_what_is_no_function(name: str) -> None:
    with pytest.raises(errors.RefusedError, match=f"Function {name}"):
        item_functions.imported(name)


def test_module_has_nothing_else() -> None:
    with pytest.raises(AttributeError):
        stages.tasks  # type: ignore[attr-defined]  # noqa: B018
