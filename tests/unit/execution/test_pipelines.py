"""Pipelines in YAML: documents for each rule (graph-building.md section 1), with the verdicts of the "
"reference."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
from aggregator.execution.pipelines import configured_pipeline

import aggregator

_TASKS = "tests.helpers.pipeline_tasks"
BASE = f"""description: d
tasks:
  step: {_TASKS}.StepTask
  join: {_TASKS}.JoinTask
  coadd: {_TASKS}.CoaddTask
  sink: {_TASKS}.SinkTask
"""
WHOLE = (
    BASE
    + """subsets:
  a: [step, join]
  b: {subset: [coadd], description: bb}
steps:
- {label: a, dimensions: [visit]}
- {label: b, dimensions: [tract, patch]}
contracts:
- {contract: step.scale > 1, msg: too small}
"""
)
ONE = f"description: d\ntasks:\n  step:\n    class: {_TASKS}.StepTask\n    config:\n"
IMPORT = "description: d\nimports:\n- location: base.yaml\n"
ALL = {"step", "join", "coadd", "sink"}
AB = {"a": {"step", "join"}, "b": {"coadd"}}


@pytest.fixture(autouse=True)
def _directory(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIPELINES", str(tmp_path))
    pathlib.Path("base.yaml").write_text(WHOLE)
    pathlib.Path("over.py").write_text("config.scale = 9.0\n")


def load(text: str, uri: str = "p.yaml", **options: Any) -> configured_pipeline.ConfiguredPipeline:
    pathlib.Path("p.yaml").write_text(text)
    return configured_pipeline.load(uri, **options)


def subsets(made: configured_pipeline.ConfiguredPipeline) -> dict[str, set[str]]:
    return {name: set(subset.labels) for name, subset in made.text.subsets.items()}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("tasks:\n  step: x.Y\n", "description"),
        ("description: d\n", "tasks, or imports"),
        (BASE + "extra: 1\n", "line 7: 'extra' is no key"),
        (BASE + "description: e\n", "line 7: key 'description' comes twice"),
        ("description: d\ntasks:\n  x: nope.Task\n", "can't be imported"),
        ("description: [\n", "line 2"),
        (ONE + "      scale: parameters.g\nparameters: {f: 6}\n", "has to be of type float"),
        (ONE + "      scale: abc\n", "has to be of type float"),
        (ONE + "      scal: 3\n", "no field 'scal'"),
        (ONE + "      nested.deeper: 3\n", "no field 'deeper'"),
        (ONE + "    - dataId: {visit: 1}\n      scale: 3\n", "for some data IDs"),
        (ONE + "      connections.nothing: y\n", "no connection 'nothing'"),
        (ONE + "      python: config.scale = 1\n", "--allow-python-config"),
        (ONE + "      file: over.py\n", "--allow-python-config"),
        (ONE + "      scale: 4\ncontracts:\n- {contract: step.scale == 5, msg: M}\n", "is not fulfilled: M"),
        (ONE + "      scale: 4\ncontracts:\n- other.scale == 5\n", "no task 'other'"),
        (ONE + "      scale: 4\ncontracts:\n- step.nope == 5\n", "no field 'nope'"),
        (ONE + "      scale: 4\ncontracts:\n- open('x')\n", "can be evaluated"),
        (ONE + "      scale: 4\ncontracts:\n- step.__class__\n", "can be evaluated"),
        (BASE + "subsets: {a: [nope]}\n", "'nope', which is no task"),
        (BASE + "subsets: {step: [join]}\n", "both a task and a subset"),
        (BASE + "steps: [{label: a, dimensions: [visit]}]\n", "is no subset"),
        (BASE + "subset: {a: [join]}\n", "it is called 'subsets'"),
        (IMPORT + "  exclude: [coadd]\n  include: [step]\n", "both include and exclude"),
        (IMPORT + "  include: [zzz]\n", "neither a task nor a subset 'zzz'"),
        (IMPORT + f"tasks:\n  step: {_TASKS}.JoinTask\n", "no field 'scale'"),
        (IMPORT + "- location: base.yaml\n", "in several imported pipelines"),
        (IMPORT + "  rename: {step: join}\n", "which is taken"),
        (IMPORT + "  rename: {step: step2}\n", "no task 'step'"),
        ("description: d\nimports: p.yaml\n", "imports itself"),
        ("description: d\ninherits: base.yaml\n", "use 'imports'"),
        (BASE + "instrument: nope.Cam\n", "can't be imported"),
    ],
)  # fmt: skip
def test_what_the_reference_refuses_is_refused(text: str, problem: str) -> None:
    with pytest.raises(aggregator.RefusedError) as caught:
        load(text)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ("      scale: 4\n", 4.0),
        ("    - scale: 4\n    - python: config.scale *= 10\n    - scale: 7.5\n", 7.5),
        ("    - scale: 4\n    - python: config.scale *= 10\n", 40.0),
        ("      python: config.scale = parameters.f\nparameters: {f: 6}\n", 6.0),
        ("      scale: 3\n      python: config.scale = 5\n", 3.0),
        ("      file: over.py\n      python: config.scale = config.scale + 1\n", 10.0),
        ("      file: over.py\n      scale: 2.5\n", 2.5),
        ("      scale: parameters.f\nparameters: {f: 6}\n", 6.0),
        ("      scale: 4\ncontracts:\n- step.scale == 4 and not step.mode\n", 4.0),
    ],
)
def test_values_are_those_of_the_reference(config: str, scale: float) -> None:
    made = load(ONE + config, allow_python=True)
    assert made.configs["step"].scale == scale
    assert f"config.scale = {scale!r}\n" in made.makers["step"].definition.config_text


def test_dicts_and_groups_of_fields_can_be_set() -> None:
    made = load(ONE + "      mode: {'1/1': fail}\n      nested.deep: 5\n")
    text = made.makers["step"].definition.config_text
    assert "config.mode = {'1/1': 'fail'}\n" in text
    assert "config.nested = {'deep': 5}\n" in text
    # The class keeps its own.
    assert load(ONE + "      scale: 1\n").configs["step"].nested.deep == 1


@pytest.mark.parametrize(
    ("setting", "outputs"),
    [
        ("connections.pre: deep", ["deep_one", "deep_two"]),
        ("connections.one: other", ["other", "x_two"]),
        ("connections.one: '{label}_{pre}'", ["step_x", "x_two"]),
    ],
)
def test_dataset_types_can_be_renamed(setting: str, outputs: list[str]) -> None:
    maker = load(f"{ONE}      {setting}\n").makers["step"]
    assert [each.dataset_type for each in maker.connections["outputs"].values()] == outputs


def test_logs_can_be_left_out() -> None:
    made = load(ONE + "      saveLogOutput: false\n")
    assert not made.makers["step"].saves_log
    assert load(BASE).makers["step"].saves_log


@pytest.mark.parametrize(
    ("text", "labels", "named"),
    [
        (BASE, ALL, {}),
        (IMPORT, ALL, AB),
        (IMPORT + "  include: [step, join]\n", {"step", "join"}, {"a": {"step", "join"}}),
        (IMPORT + "  include: a\n", {"step", "join"}, {"a": {"step", "join"}}),
        (IMPORT + "  exclude: [coadd]\n", ALL - {"coadd"}, {"a": {"step", "join"}}),
        (
            IMPORT + "  exclude: [join]\n  labeledSubsetModifyMode: EDIT\n",
            ALL - {"join"},
            {"a": {"step"}, "b": {"coadd"}},
        ),
        (IMPORT + "  exclude: [join]\n", ALL - {"join"}, {"b": {"coadd"}}),
        (
            IMPORT + "  rename: {step: step2}\n  importContracts: false\n",
            (ALL - {"step"}) | {"step2"},
            {"b": {"coadd"}},
        ),
        ("description: d\nimports:\n- $PIPELINES/base.yaml\n", ALL, AB),
        (IMPORT + "parameters: {f: 1}\n", ALL, AB),
    ],
)
def test_imports_take_what_those_of_the_reference_take(
    text: str, labels: set[str], named: dict[str, set[str]]
) -> None:
    made = load(text)
    assert set(made.makers) == labels
    assert subsets(made) == named
    assert {step.label for step in made.text.steps} <= set(named)


def test_own_settings_come_after_imported_ones() -> None:
    own = f"tasks:\n  step:\n    class: {_TASKS}.StepTask\n    config:\n      scale: 8\n"
    assert load(IMPORT + own).configs["step"].scale == 8.0


@pytest.mark.parametrize(
    ("fragment", "labels"),
    [
        ("a", {"step", "join"}),
        ("step..coadd", {"step", "join", "coadd"}),
        ("a,coadd", {"step", "join", "coadd"}),
        ("sink", {"sink"}),
    ],
)
def test_a_part_can_be_named(fragment: str, labels: set[str]) -> None:
    assert set(load("", f"base.yaml#{fragment}").makers) == labels


def test_parts_that_do_not_exist_are_refused() -> None:
    with pytest.raises(aggregator.RefusedError, match="zzz"):
        load("", "base.yaml#zzz")


def test_the_instrument_gives_a_data_id() -> None:
    assert load(BASE + f"instrument: {_TASKS}.Cam\n").data_id == {"instrument": "Cam"}
