"""Dictionaries: what may, and what has to be in a policy (stages.md section 2.3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final

from aggregator.stages.policies import limits, problems
from aggregator.stages.policies import policy as policy_module

_Code: Final = problems.Code


@dataclasses.dataclass(frozen=True, slots=True)
class Definition:
    """What may be under one name."""

    type: str = ""
    """Type of its values; "" for any."""

    least: int = 0
    """How many values there have to be."""

    most: int | None = None
    """How many values there may be, if that is limited."""

    limits: limits.Limits = limits.NONE
    """Which values are allowed."""

    dictionary: Dictionary | None = None
    """What is in policies of this name, if that is defined."""

    defaults: policy_module.Policy = dataclasses.field(default_factory=policy_module.Policy)
    """A policy with the values that the name has by default, if any."""

    def with_defaults(self, defaults: policy_module.Policy) -> Definition:
        """Return the same definition with other defaults."""
        return dataclasses.replace(self, defaults=defaults)

    def check(self, policy: policy_module.Policy, name: str) -> list[problems.Problem]:
        """Return all that is wrong with the values of a name, of which there are some."""
        result = self._check_count(policy, name)
        for each in policy.elements(name):
            kind = policy_module.kind(each.value)
            problem: tuple[problems.Code, str] | None = None
            if isinstance(each.value, policy_module.Include):
                problem = _Code.NOT_LOADED, f"{each.value.path} was not read"
            elif self.type and kind != self.type:
                problem = _Code.WRONG_TYPE, f"value has the incorrect type {kind}; it has to be {self.type}"
            elif not isinstance(each.value, policy_module.Policy):
                problem = self.limits.check(each.value)
            elif self.dictionary is not None:
                result += self.dictionary.check(each.value)
            if problem is not None:
                result.append(problems.Problem(each.origin, policy.full_name(name), *problem))
        return result

    def _check_count(self, policy: policy_module.Policy, name: str) -> list[problems.Problem]:
        count = len(policy.elements(name))
        if self.most is not None and count > self.most:
            code, text = _Code.TOO_MANY_VALUES, f"too many values: {count}, of at most {self.most}"
        elif count == 1 < self.least:
            code, text = _Code.NOT_AN_ARRAY, f"value is no array; there have to be {self.least} values"
        elif count < self.least:
            code, text = (
                _Code.ARRAY_TOO_SHORT,
                f"array is too short: {count}, of at least {self.least} values",
            )
        else:
            return []
        return [_problem(policy, name, code, text)]


@dataclasses.dataclass(frozen=True, slots=True)
class Dictionary:
    """What may be in a policy; made by `dictionary_files`."""

    definitions: Mapping[str, Definition]
    """Definitions by name."""

    children: Definition | None = None
    """Definition of all other names; nothing if there may be none."""

    def definition(self, name: str) -> Definition | None:
        """Return the definition of a name, if it may be there."""
        return self.definitions.get(name, self.children)

    def add_defaults(self, policy: policy_module.Policy) -> None:
        """Add each default that is absent, also in policies inside of this one."""
        for name, definition in self.definitions.items():
            if definition.defaults.names():
                policy.fill(definition.defaults)
            if definition.dictionary is not None and name not in policy:
                inner = policy_module.Policy()
                definition.dictionary.add_defaults(inner)
                if inner.names():
                    policy.inner(name, policy.origin).fill(inner)
        for name in policy.names():
            present = self.definition(name)
            for each in policy.elements(name):
                if present and present.dictionary and isinstance(each.value, policy_module.Policy):
                    present.dictionary.add_defaults(each.value)

    def check(self, policy: policy_module.Policy) -> list[problems.Problem]:
        """Return all that is wrong with a policy, in the order of its lines."""
        result = []
        for name in policy.names():
            definition = self.definition(name)
            if definition is None:
                known = ", ".join(self.definitions) or "none"
                text = f"parameter name is unknown (known: {known})"
                result.append(_problem(policy, name, _Code.UNKNOWN_NAME, text))
            else:
                result += definition.check(policy, name)
        for name, definition in self.definitions.items():
            if definition.least > 0 and name not in policy:
                text = "no value available for required parameter"
                result.append(_problem(policy, name, _Code.MISSING_REQUIRED, text))
        return sorted(result, key=lambda each: (each.origin.file != policy.origin.file, each.origin.line))

    def complete(self, policy: policy_module.Policy) -> None:
        """Add defaults to a policy, and refuse it if anything is wrong then.

        Raises
        ------
        RefusedError
            If so; it has a line for each problem.
        """
        self.add_defaults(policy)
        problems.refuse(self.check(policy))


def _problem(policy: policy_module.Policy, name: str, code: problems.Code, text: str) -> problems.Problem:
    return problems.Problem(policy.origin_of(name), policy.full_name(name), code, text)
