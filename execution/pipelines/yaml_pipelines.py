"""One YAML document of a pipeline, as it is written (graph-building.md section 1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final, NoReturn

import yaml
from aggregator.storage import errors, local_files


@dataclasses.dataclass(frozen=True, slots=True)
class ConfigBlock:
    """Settings of a task that are made together."""

    files: tuple[str, ...] = ()
    """Python files that are run first."""

    python: str = ""
    """Python statements that are run next."""

    values: tuple[tuple[str, Any], ...] = ()
    """Values by field, which are set last."""


@dataclasses.dataclass(frozen=True, slots=True)
class TaskEntry:
    """A task."""

    task_class: str
    """Qualified name of its class."""

    blocks: tuple[ConfigBlock, ...] = ()
    """Its settings, in order."""


@dataclasses.dataclass(frozen=True, slots=True)
class Subset:
    """A name for several tasks."""

    labels: frozenset[str]
    """Labels of the tasks."""

    description: str = ""
    """What it is."""


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """A subset that is executed as a whole before the next one."""

    label: str
    """Name of the subset."""

    dimensions: tuple[str, ...]
    """Dimensions by which it may be divided."""


@dataclasses.dataclass(frozen=True, slots=True)
class Contract:
    """What has to be true of configurations."""

    expression: str
    """A Python expression with labels as names."""

    message: str
    """What is said if it is not."""


@dataclasses.dataclass(frozen=True, slots=True)
class Import:
    """Another pipeline, all of it or a part."""

    location: str
    """Where it is."""

    include: tuple[str, ...] = ()
    """Labels and subsets that are taken; none for all."""

    exclude: tuple[str, ...] = ()
    """Labels and subsets that are left out."""

    rename: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """New labels."""

    takes_instrument: bool = True
    """Whether its instrument is taken."""

    takes_contracts: bool = True
    """Whether its contracts are taken."""

    takes_steps: bool = True
    """Whether its steps are taken."""

    shrinks_subsets: bool = False
    """Whether subsets that lose a label keep the others; they are dropped otherwise."""


@dataclasses.dataclass(frozen=True, slots=True)
class PipelineText:
    """A pipeline as it is written."""

    description: str
    """What it does."""

    tasks: dict[str, TaskEntry] = dataclasses.field(default_factory=dict)
    """Tasks by label."""

    parameters: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Values that settings can name."""

    subsets: dict[str, Subset] = dataclasses.field(default_factory=dict)
    """Subsets by name."""

    steps: tuple[Step, ...] = ()
    """Steps in order."""

    contracts: tuple[Contract, ...] = ()
    """Contracts."""

    instrument: str | None = None
    """Qualified name of the class of its instrument."""

    imports: tuple[Import, ...] = ()
    """Other pipelines."""


_KEYS: Final = (
    "description", "tasks", "parameters", "subsets", "steps", "contracts", "instrument", "imports",
)  # fmt: skip
_HINTS: Final = {
    "inherits": "use 'imports' instead",
    "subset": "it is called 'subsets'",
}
_IMPORT_KEYS: Final = (
    "location", "include", "exclude", "rename", "instrument", "importContracts", "importSteps",
    "labeledSubsetModifyMode",
)  # fmt: skip


def read(path: str) -> PipelineText:
    """Return the pipeline in a file.

    Raises
    ------
    RefusedError
        If it can't be read, or is none.
    """
    try:
        text = local_files.read(path).decode()
    except (OSError, local_files.UnusableError, UnicodeDecodeError) as exc:
        raise errors.RefusedError(f"{path}: can't read the pipeline ({exc}).") from exc
    return parse(text, path)


def parse(text: str, path: str) -> PipelineText:
    """Return a pipeline.

    Parameters
    ----------
    text
        YAML.
    path
        Where it is from, for messages.

    Raises
    ------
    RefusedError
        If it is none.
    """
    try:
        document = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as exc:
        line = "" if exc.problem_mark is None else f" line {exc.problem_mark.line + 1}:"
        raise errors.RefusedError(f"{path}:{line} {exc.problem or exc.context}.") from exc
    except yaml.YAMLError as exc:
        raise errors.RefusedError(f"{path}: {exc}.") from exc
    return _Reading(path, _key_lines(text)).pipeline(document)


class _Loader(yaml.SafeLoader):
    """Refuses keys that come twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {name!r} comes twice", key.start_mark
                )
            seen.add(name)
        return super().construct_mapping(node, deep=deep)


def _key_lines(text: str) -> dict[str, int]:
    """Return the lines of the keys at the top of a document."""
    node = yaml.compose(text, yaml.SafeLoader)
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return {str(key.value): key.start_mark.line + 1 for key, _ in pairs}


class _Reading:
    """Reads a document.

    Parameters
    ----------
    path
        Where it is from.
    lines
        Line of each key at its top.
    """

    def __init__(self, path: str, lines: dict[str, int]) -> None:
        self._path = path
        self._lines = lines

    def _refuse(self, problem: str, key: str | None = None) -> NoReturn:
        place = (
            f"{self._path}:" if key not in self._lines else f"{self._path}: line {self._lines[key or '']}:"
        )
        raise errors.RefusedError(f"{place} {problem}.")

    def _mapping(self, value: Any, key: str, what: str = "a mapping") -> dict[str, Any]:
        if not isinstance(value, dict):
            self._refuse(f"{key} has to be {what}", key)
        return {str(name): each for name, each in value.items()}

    def _list(self, value: Any) -> list[Any]:
        return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]

    def pipeline(self, document: Any) -> PipelineText:
        """Return the pipeline."""
        content = self._mapping(document, "the pipeline")
        for key in content:
            if key not in _KEYS:
                self._refuse(
                    f"{key!r} is no key of a pipeline; {_HINTS.get(key, 'there are ' + ', '.join(_KEYS))}",
                    key,
                )
        if not isinstance(content.get("description"), str):
            self._refuse("a pipeline has to have a description")
        if not content.get("tasks") and not content.get("imports"):
            self._refuse("a pipeline has to have tasks, or imports")
        tasks = self._mapping(content.get("tasks") or {}, "tasks")
        made = PipelineText(
            description=content["description"],
            tasks={label: self._task(label, entry) for label, entry in tasks.items()},
            parameters=self._mapping(content.get("parameters") or {}, "parameters"),
            subsets={
                name: self._subset(name, each)
                for name, each in self._mapping(content.get("subsets") or {}, "subsets").items()
            },
            steps=tuple(self._step(each) for each in self._list(content.get("steps"))),
            contracts=tuple(self._contract(each) for each in self._list(content.get("contracts"))),
            instrument=content.get("instrument"),
            imports=tuple(self._import(each) for each in self._list(content.get("imports"))),
        )
        if made.instrument is not None and not isinstance(made.instrument, str):
            self._refuse("instrument has to be the name of a class", "instrument")
        return made

    def _task(self, label: str, entry: Any) -> TaskEntry:
        if isinstance(entry, str):
            return TaskEntry(entry)
        content = self._mapping(entry, f"task {label!r}", "a class, or a mapping of class and config")
        if unknown := sorted(content.keys() - {"class", "config"}):
            self._refuse(f"task {label!r} has no {unknown[0]!r}; there are class and config", "tasks")
        if not isinstance(content.get("class"), str):
            self._refuse(f"task {label!r} has to have a class", "tasks")
        return TaskEntry(
            content["class"], tuple(self._block(label, b) for b in self._list(content.get("config")))
        )

    def _block(self, label: str, block: Any) -> ConfigBlock:
        content = self._mapping(block, f"config of task {label!r}")
        if "dataId" in content:
            self._refuse(f"config of task {label!r}: settings for some data IDs are not supported", "tasks")
        files, python = content.pop("file", None), content.pop("python", "")
        if not isinstance(python, str):
            self._refuse(f"config of task {label!r}: python has to be text", "tasks")
        return ConfigBlock(tuple(map(str, self._list(files))), python, tuple(content.items()))

    def _subset(self, name: str, subset: Any) -> Subset:
        if isinstance(subset, list):
            return Subset(frozenset(map(str, subset)))
        content = self._mapping(subset, f"subset {name!r}", "a list of labels, or a mapping with one")
        if "subset" not in content:
            self._refuse(f"subset {name!r} has no list of labels called 'subset'", "subsets")
        labels = frozenset(map(str, self._list(content["subset"])))
        return Subset(labels, str(content.get("description") or ""))

    def _step(self, step: Any) -> Step:
        content = self._mapping(step, "a step")
        if "label" not in content:
            self._refuse("a step has to have a label", "steps")
        return Step(str(content["label"]), tuple(map(str, self._list(content.get("dimensions")))))

    def _contract(self, contract: Any) -> Contract:
        if isinstance(contract, str):
            return Contract(contract, "")
        content = self._mapping(contract, "a contract")
        if "contract" not in content:
            self._refuse("a contract has to have an expression called 'contract'", "contracts")
        return Contract(str(content["contract"]), str(content.get("msg") or ""))

    def _import(self, entry: Any) -> Import:
        content = self._mapping({"location": entry} if isinstance(entry, str) else entry, "an import")
        if unknown := sorted(content.keys() - set(_IMPORT_KEYS)):
            self._refuse(f"an import has no {unknown[0]!r}; there are {', '.join(_IMPORT_KEYS)}", "imports")
        if not isinstance(content.get("location"), str):
            self._refuse("an import has to have a location", "imports")
        if content.get("include") and content.get("exclude"):
            self._refuse("an import can't both include and exclude; leave one out", "imports")
        mode = str(content.get("labeledSubsetModifyMode", "DROP")).upper()
        if mode not in ("DROP", "EDIT"):
            self._refuse("labeledSubsetModifyMode has to be DROP or EDIT", "imports")
        return Import(
            content["location"],
            tuple(map(str, self._list(content.get("include")))),
            tuple(map(str, self._list(content.get("exclude")))),
            {old: str(new) for old, new in self._mapping(content.get("rename") or {}, "rename").items()},
            content.get("instrument", True) not in (False, None, "None"),
            bool(content.get("importContracts", True)),
            bool(content.get("importSteps", True)),
            mode == "EDIT",
        )
