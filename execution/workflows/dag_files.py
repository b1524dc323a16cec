"""DAG files of HTCondor: jobs as nodes, with what comes before which, as DAGMan reads them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

_CHILDREN = 50
"""Children in one line."""

_PASSED = frozenset({"PRIORITY", "CATEGORY", "MAXJOBS", "CONFIG", "NODE_STATUS_FILE", "DOT", "JOBSTATE_LOG"})
"""Commands that change nothing about which nodes run, and in which order."""

_VARIABLE = re.compile(r'\s*([A-Za-z_]\w*)\s*=\s*"((?:[^"\\]|\\.)*)"')


@dataclasses.dataclass(frozen=True, slots=True)
class Abort:
    """When a node ends everything."""

    code: int
    """The code with which it does."""

    result: int
    """What the DAG returns then."""


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """A node: a job, and what is done around it."""

    name: str
    """Its name."""

    submit: str
    """File that describes the job."""

    variables: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Values of macros in that file."""

    pre: tuple[str, ...] = ()
    """Command before the job; none if empty."""

    post: tuple[str, ...] = ()
    """Command after the job, which decides whether the node has succeeded; none if empty."""

    retries: int = 0
    """Attempts after the first."""

    unless_exit: int | None = None
    """Code after which there is no other attempt."""

    abort: Abort | None = None
    """When it ends everything."""


@dataclasses.dataclass(frozen=True, slots=True)
class Dag:
    """Nodes, and what comes before which."""

    nodes: Mapping[str, Node]
    """Nodes by name, but for the final one."""

    edges: tuple[tuple[str, str], ...] = ()
    """Pairs of parent and child."""

    final: Node | None = None
    """The node that runs last, whatever became of the others."""


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong."""

    place: str
    """Line or file."""

    problem: str
    """What it is."""

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}"


def write(dag: Dag) -> Iterator[str]:
    """Yield the text of a file in pieces."""
    for node in dag.nodes.values():
        yield from _write_node("JOB", node)
    children: dict[str, list[str]] = {}
    for parent, child in dag.edges:
        children.setdefault(parent, []).append(child)
    for parent, names in children.items():
        for begin in range(0, len(names), _CHILDREN):
            yield f"PARENT {parent} CHILD {' '.join(names[begin : begin + _CHILDREN])}\n"
    if dag.final is not None:
        yield from _write_node("FINAL", dag.final)


def _write_node(keyword: str, node: Node) -> Iterator[str]:
    yield f"{keyword} {node.name} {node.submit}\n"
    if node.variables:
        macros = " ".join(f'{name}="{_escaped(value)}"' for name, value in node.variables.items())
        yield f"VARS {node.name} {macros}\n"
    if node.pre:
        yield f"SCRIPT PRE {node.name} {' '.join(node.pre)}\n"
    if node.post:
        yield f"SCRIPT POST {node.name} {' '.join(node.post)}\n"
    if node.retries:
        unless = "" if node.unless_exit is None else f" UNLESS-EXIT {node.unless_exit}"
        yield f"RETRY {node.name} {node.retries}{unless}\n"
    if node.abort is not None:
        yield f"ABORT-DAG-ON {node.name} {node.abort.code} RETURN {node.abort.result}\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')


def read(lines: Iterable[str]) -> tuple[Dag, list[Fault]]:
    """Return a DAG, and what is wrong with its lines; what is wrong is left out."""
    reader = _Reader()
    # A node may be described by lines before its own.
    numbered = [(number, line.split()) for number, line in enumerate(lines, 1)]
    commands = [(number, words) for number, words in numbered if words and not words[0].startswith("#")]
    commands.sort(key=lambda each: each[1][0].upper() not in ("JOB", "FINAL"))
    for number, words in commands:
        try:
            reader.take(words[0].upper(), words[1:])
        except ValueError as exc:
            reader.faults.append(Fault(f"line {number}", str(exc)))
    return Dag(reader.nodes, tuple(reader.edges), reader.final), reader.faults


class _Reader:
    """Takes the commands of a file one by one."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.edges: dict[tuple[str, str], None] = {}
        self.final: Node | None = None
        self.faults: list[Fault] = []
        self._actions: Mapping[str, Callable[[list[str]], None]] = {
            "JOB": self._job,
            "FINAL": self._final,
            "PARENT": self._parent,
            "VARS": self._variables,
            "SCRIPT": self._script,
            "RETRY": self._retry,
            "ABORT-DAG-ON": self._abort,
        }

    def take(self, keyword: str, words: list[str]) -> None:
        """Take a command; raise ValueError if there is something wrong with it."""
        if keyword in self._actions:
            self._actions[keyword](words)
        elif keyword not in _PASSED:
            raise ValueError(f"{keyword} is no command that is known here")

    def _job(self, words: list[str]) -> None:
        node = self._new(words)
        self.nodes[node.name] = node

    def _final(self, words: list[str]) -> None:
        node = self._new(words)
        if self.final is not None:
            raise ValueError(f"{node.name} is a second FINAL node")
        self.final = node

    def _new(self, words: list[str]) -> Node:
        if len(words) < 2:
            raise ValueError("a node has a name and a file")
        name, submit, *more = words
        if more:
            raise ValueError(f"{' '.join(more)} is not known here")
        if name.upper() in ("ALL_NODES", "PARENT", "CHILD") or re.search(r"[.+]", name):
            raise ValueError(f"{name} can't be the name of a node")
        if name in self.nodes or (self.final is not None and self.final.name == name):
            raise ValueError(f"node {name} is there twice")
        return Node(name, submit)

    def _parent(self, words: list[str]) -> None:
        places = [number for number, word in enumerate(words) if word.upper() == "CHILD"]
        if not places or not (parents := words[: places[0]]) or not (children := words[places[0] + 1 :]):
            raise ValueError("PARENT has parents, CHILD and children")
        for name in (*parents, *children):
            if self.final is not None and self.final.name == name:
                raise ValueError(f"{name} is the FINAL node, which has no parents or children")
            if name not in self.nodes:
                raise ValueError(f"there is no node {name}")
        self.edges.update(dict.fromkeys((parent, child) for parent in parents for child in children))

    def _change(self, name: str, is_final_too: bool, **values: object) -> None:
        if name in self.nodes:
            self.nodes[name] = dataclasses.replace(self.nodes[name], **values)  # type: ignore[arg-type]
        elif self.final is None or self.final.name != name:
            raise ValueError(f"there is no node {name}")
        elif not is_final_too:
            raise ValueError(f"{name} is the FINAL node, which can't have that")
        else:
            self.final = dataclasses.replace(self.final, **values)  # type: ignore[arg-type]

    def _variables(self, words: list[str]) -> None:
        name, text = words[0] if words else "", " ".join(words[1:])
        variables, end = {}, 0
        while (match := _VARIABLE.match(text, end)) is not None:
            variables[match[1]] = re.sub(r"\\(.)", r"\1", match[2])
            end = match.end()
        if not variables or text[end:].strip():
            raise ValueError('VARS has a node and macros: name="value"')
        self._change(name, True, variables=variables)

    def _script(self, words: list[str]) -> None:
        kind = words[0].lower() if words else ""
        if kind not in ("pre", "post") or len(words) < 3:
            raise ValueError("SCRIPT has PRE or POST, a node and a command")
        self._change(words[1], True, **{kind: tuple(words[2:])})

    def _retry(self, words: list[str]) -> None:
        name, count, *rest = [*words, "", ""][: max(2, len(words))]
        unless = _number(rest[1]) if len(rest) == 2 and rest[0].upper() == "UNLESS-EXIT" else None
        if (rest and unless is None) or (_number(count) or 0) < 0 or _number(count) is None:
            raise ValueError("RETRY has a node, a number, and maybe UNLESS-EXIT with a code")
        self._change(name, False, retries=_number(count), unless_exit=unless)

    def _abort(self, words: list[str]) -> None:
        code = _number(words[1]) if len(words) in (2, 4) else None
        result = _number(words[3]) if len(words) == 4 and words[2].upper() == "RETURN" else code
        if code is None or result is None or (len(words) == 4 and words[2].upper() != "RETURN"):
            raise ValueError("ABORT-DAG-ON has a node, a code, and maybe RETURN with another")
        self._change(words[0], False, abort=Abort(code, result))


def _number(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
