"""Dictionaries as policy files have them, and what is wrong with one (stages.md section 2.3)."""

from __future__ import annotations

from typing import Final

from aggregator.stages.policies import dictionaries, limits, policy_files, problems
from aggregator.stages.policies import policy as policy_module
from aggregator.storage import uris

_TYPES: Final = ("bool", "int", "double", "string", "policy")
_OTHER_NAMES: Final = {"Policy": "policy", "boolean": "bool", "integer": "int"}
_KEYS: Final = frozenset(
    {"type", "description", "minOccurs", "maxOccurs", "default", "allowed", "dictionary", "dictionaryFile"}
)
_CHILDREN: Final = "childDefinition"


def read(location: str) -> dictionaries.Dictionary:
    """Read a dictionary, with those that it refers to.

    Parameters
    ----------
    location
        Path or URI of a policy file.

    Raises
    ------
    RefusedError
        If it is no dictionary, or one that is wrong; it has a line for each problem then.
    """
    return of_policy(policy_files.read(location))


def of_policy(policy: policy_module.Policy) -> dictionaries.Dictionary:
    """Return the dictionary that a policy has; errors as for `read`."""
    maker = _Maker(policy.origin.file)
    result = maker.dictionary(policy)
    problems.refuse(maker.problems)
    return result


class _Maker:
    """Makes a dictionary, and notes all that is wrong with it."""

    def __init__(self, file: str) -> None:
        self.problems: list[problems.Problem] = []
        self._files = [uris.absolute(file)]

    def dictionary(self, policy: policy_module.Policy) -> dictionaries.Dictionary:
        for name in policy.names():
            if name not in ("target", "definitions"):
                self._note(policy, name, "unknown property")
        texts = self._policy(policy, "definitions")
        if texts is None:
            self._note(policy, "definitions", "a dictionary has one policy of this name")
            return dictionaries.Dictionary({})
        definitions = {}
        for name in texts.names():
            text = self._policy(texts, name)
            if text is None:
                self._note(texts, name, "a definition is one policy")
            else:
                definitions[name] = self._definition(text, name)
        children = definitions.pop(_CHILDREN, None)
        return dictionaries.Dictionary(definitions, children)

    def _definition(self, text: policy_module.Policy, name: str) -> dictionaries.Definition:
        for key in text.names():
            if key not in _KEYS:
                self._note(text, key, f'unknown property: "{key}"')
        kind = str(self._scalar(text, "type", "string") or "")
        kind = _OTHER_NAMES.get(kind, kind)
        if kind and kind not in _TYPES:
            self._note(text, "type", f'unknown type "{kind}" (known: {", ".join(_TYPES)})')
        least, most = self._count(text, "minOccurs") or 0, self._count(text, "maxOccurs")
        if most is not None and most < least:
            self._note(text, "maxOccurs", f"is less than minOccurs, {least}")
        allowed, wrong = limits.read(text)
        self.problems += wrong
        dictionary = self._inner(text)
        if dictionary is not None and kind not in ("", "policy"):
            self._note(text, "type", 'has to be "policy" for what has a dictionary')
        definition = dictionaries.Definition(kind, least, most, allowed, dictionary)
        return self._with_default(definition, text, name)

    def _with_default(
        self, definition: dictionaries.Definition, text: policy_module.Policy, name: str
    ) -> dictionaries.Definition:
        if "default" not in text:
            return definition
        defaults = policy_module.Policy(text.origin_of("default"))
        for each in text.elements("default"):
            defaults.copy(name, each)
        for problem in definition.check(defaults, name):
            self._note(text, "default", problem.text)
        return definition.with_defaults(defaults)

    def _inner(self, text: policy_module.Policy) -> dictionaries.Dictionary | None:
        """Return what is in policies of a name, if it is defined."""
        if "dictionary" in text:
            inner = self._policy(text, "dictionary")
            if inner is None or "dictionaryFile" in text:
                self._note(text, "dictionary", "has to be one policy, or its file as dictionaryFile")
                return None
            return self.dictionary(inner)
        path = self._scalar(text, "dictionaryFile", "string")
        if path is None:
            return None
        location = policy_files.neighbour(text.origin.file, str(path))
        if uris.absolute(location) in self._files:
            self._note(text, "dictionaryFile", f"{location} refers to itself")
            return None
        self._files.append(uris.absolute(location))
        result = self.dictionary(policy_files.read(location))
        self._files.pop()
        return result

    def _policy(self, policy: policy_module.Policy, name: str) -> policy_module.Policy | None:
        """Return the only value of a name, if it is a policy."""
        values = [each.value for each in policy.elements(name)]
        return values[0] if len(values) == 1 and isinstance(values[0], policy_module.Policy) else None

    def _scalar(self, policy: policy_module.Policy, name: str, kind: str) -> policy_module.Value | None:
        """Return the only value of a name, if there is one; it has to be of a type."""
        values = [each.value for each in policy.elements(name)]
        if not values:
            return None
        if len(values) == 1 and policy_module.kind(values[0]) == kind:
            return values[0]
        self._note(policy, name, f"has to be one {kind}")
        return None

    def _count(self, policy: policy_module.Policy, name: str) -> int | None:
        value = self._scalar(policy, name, "int")
        if not isinstance(value, int):
            return None
        if value < 0:
            self._note(policy, name, "has to be 0 or more")
            return None
        return value

    def _note(self, policy: policy_module.Policy, name: str, text: str) -> None:
        code = problems.Code.BAD_DEFINITION
        self.problems.append(problems.Problem(policy.origin_of(name), policy.full_name(name), code, text))
