"""Rules for new names of collections."""

import pytest
from aggregator.butler.transfers import renaming
from aggregator.storage import errors


def test_the_first_rule_that_fits_the_whole_name_counts() -> None:
    names = renaming.Renaming([r"u/me/(.*)=prod/\1", r"u/(?P<who>\w+)/run=\g<who>=run", "u/.*=other"])
    assert names.name("u/me/run") == "prod/run"
    assert names.name("u/you/run") == "you=run"
    assert names.name("u/you/runs") == "other"
    assert names.name("a/u/me/run") == "a/u/me/run"
    assert names


def test_without_rules_names_stay() -> None:
    assert not renaming.Renaming([])
    assert renaming.Renaming([]).name("u/me") == "u/me"


@pytest.mark.parametrize("rule", ["", "a", "=b", "(=b", r"a=\1", r"a=\g<x>", "a{9999999999}=b"])
def test_what_is_no_rule_is_refused(rule: str) -> None:
    with pytest.raises(errors.RefusedError, match="no rule for new names"):
        renaming.Renaming([rule])


def test_empty_names_are_refused() -> None:
    with pytest.raises(errors.RefusedError, match="empty name"):
        renaming.Renaming(["u/(.*)=\\1"]).name("u/")
