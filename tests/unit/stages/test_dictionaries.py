"""Dictionaries: a test for each line of stages.md section 2.3."""

from __future__ import annotations

import pathlib

import pytest
from aggregator.stages import job_policies, stage_dictionary
from aggregator.stages.policies import dictionary_files, policy, problems, yaml_policies
from aggregator.storage import errors

from tests.unit.stages import test_paf

CODE = problems.Code

DEFINITIONS = """
target: test
definitions: {
    flag: {
        type: bool
    }
    count: {
        type: int
        maxOccurs: 1
        default: 3
        allowed: {
            min: 1
            description: "at least one"
        }
        allowed: {
            max: 5
        }
    }
    size: {
        type: double
    }
    mode: {
        type: string
        allowed: {
            value: "preprocess" "postprocess"
            description: "before or after"
        }
    }
    when: {
        type: string
        allowed: "never" "always"
    }
    pair: {
        type: int
        minOccurs: 2
    }
    triple: {
        minOccurs: 3
    }
    forbidden: {
        maxOccurs: 0
    }
    any: {
        allowed: 1 2
    }
    free: {
        type: policy
    }
    items: {
        type: policy
        dictionary: {
            definitions: {
                known: {
                    type: string
                    minOccurs: 1
                }
                childDefinition: {
                    type: policy
                    dictionary: {
                        definitions: {
                            required: {
                                type: bool
                                default: true
                            }
                        }
                    }
                }
            }
        }
    }
}
"""
REQUIRED = "pair: 1 2\ntriple: 1 2 3\n"


def dictionary(text: str = DEFINITIONS) -> dictionary_files.dictionaries.Dictionary:
    return dictionary_files.of_policy(test_paf.parsed(text))


def found(text: str) -> list[tuple[str, problems.Code]]:
    return [(each.name, each.code) for each in dictionary().check(test_paf.parsed(text))]


@pytest.mark.parametrize(
    ("text", "name", "code"),
    [
        ("flag: yes", "flag", CODE.WRONG_TYPE),
        ("size: 1", "size", CODE.WRONG_TYPE),
        ("count: 1.0", "count", CODE.WRONG_TYPE),
        ("mode: true", "mode", CODE.WRONG_TYPE),
        ("free: x", "free", CODE.WRONG_TYPE),
        ("items: {}", "items.known", CODE.MISSING_REQUIRED),
        ("forbidden: 1", "forbidden", CODE.TOO_MANY_VALUES),
        ("count: 1 2", "count", CODE.TOO_MANY_VALUES),
        ("mode: process", "mode", CODE.VALUE_DISALLOWED),
        ("when: now", "when", CODE.VALUE_DISALLOWED),
        ("any: true", "any", CODE.VALUE_DISALLOWED),
        ("any: 1.0", "any", CODE.VALUE_DISALLOWED),
        ("count: 0", "count", CODE.VALUE_OUT_OF_RANGE),
        ("count: 6", "count", CODE.VALUE_OUT_OF_RANGE),
        ("other: 1", "other", CODE.UNKNOWN_NAME),
        ("free: @other.paf", "free", CODE.NOT_LOADED),
        ("items: {\n known: a\n x: {\n  y: 1\n }\n}", "items.x.y", CODE.UNKNOWN_NAME),
        ("items: {\n known: a\n x: 1\n}", "items.x", CODE.WRONG_TYPE),
    ],
)
def test_each_problem_has_its_code(text: str, name: str, code: problems.Code) -> None:
    assert found(REQUIRED + text) == [(name, code)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pair: 1\ntriple: 1 2 3", [("pair", CODE.NOT_AN_ARRAY)]),
        ("pair: 1 2\ntriple: 1 2", [("triple", CODE.ARRAY_TOO_SHORT)]),
        ("triple: 1 2 3", [("pair", CODE.MISSING_REQUIRED)]),
    ],
)
def test_numbers_of_values(text: str, expected: list[tuple[str, problems.Code]]) -> None:
    assert found(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "count: 1",
        "count: 5",
        "when: never",
        "mode: preprocess",
        "free: {any: 1}",
        "items: {known: x}",
        "triple: 4",
    ],
)
def test_what_is_allowed_is_no_problem(text: str) -> None:
    assert found(REQUIRED + text) == []


def test_codes_are_those_that_they_always_were() -> None:
    assert [int(code) for code in CODE] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]


def test_all_problems_are_told_at_once_with_their_lines() -> None:
    text = REQUIRED + "mode: process\ncount: 9\nitems: {\n  known: x\n  a: {\n    b: 1\n  }\n}\nsize: 1\n"
    with pytest.raises(errors.RefusedError) as refusal:
        dictionary().complete(test_paf.parsed(text))
    assert str(refusal.value).splitlines() == [
        'a.paf:3: mode: value is not among defined set: "process" (allowed: preprocess, postprocess)',
        "a.paf:4: count: value is out of range: 9 (allowed: 1 … 5)",
        "a.paf:8: items.a.b: parameter name is unknown (known: required)",
        "a.paf:11: size: value has the incorrect type int; it has to be double",
    ]


def test_defaults_are_added_where_they_are_absent() -> None:
    filled = test_paf.parsed(REQUIRED + "items: {\n known: x\n a: {}\n b: {required: false}\n}")
    dictionary().complete(filled)
    assert yaml_policies.document(filled) == {
        "pair": [1, 2],
        "triple": [1, 2, 3],
        "items": {"known": "x", "a": {"required": True}, "b": {"required": False}},
        "count": 3,
    }
    kept = test_paf.parsed(REQUIRED + "count: 4")
    dictionary().complete(kept)
    assert kept.required("count", int) == 4


def test_leaves_of_defaults_are_added_one_by_one() -> None:
    text = "target: x\ndefinitions: {\n a: {\n  type: policy\n  default: {\n   b: 1\n   c: 2\n  }\n }\n"
    text += " d: {\n  dictionary: {\n   definitions: {\n    e: {\n     default: 5\n    }\n   }\n  }\n }\n}"
    filled = test_paf.parsed("a: {b: 7}")
    made = dictionary(text)
    made.complete(filled)
    assert yaml_policies.document(filled) == {"a": {"b": 7, "c": 2}, "d": {"e": 5}}
    # Policies of defaults are not shared.
    filled.part("a").add("f", 1)
    other = policy.Policy()
    made.add_defaults(other)
    assert yaml_policies.document(other) == {"a": {"b": 1, "c": 2}, "d": {"e": 5}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {\n strange: 1\n}", 'a.paf:4: definitions.a.strange: unknown property: "strange"'),
        ("a: {\n type: float\n}", 'definitions.a.type: unknown type "float" (known: bool, int, double'),
        ("a: {\n type: 1\n}", "definitions.a.type: has to be one string"),
        ("a: {\n minOccurs: 1.0\n}", "definitions.a.minOccurs: has to be one int"),
        ("a: {\n maxOccurs: -1\n}", "definitions.a.maxOccurs: has to be 0 or more"),
        ("a: {\n minOccurs: 2\n maxOccurs: 1\n}", "definitions.a.maxOccurs: is less than minOccurs, 2"),
        ("a: {\n allowed: {\n  max: x\n }\n}", "definitions.a.allowed.max: has to be a number"),
        ("a: {\n allowed: {\n  min: 1 2\n }\n}", "definitions.a.allowed.min: there is one already"),
        ("a: {\n allowed: {\n  mean: 1\n }\n}", "definitions.a.allowed.mean: unknown property"),
        ("a: {\n allowed: {\n  value: {}\n }\n}", "definitions.a.allowed.value: can't be a policy"),
        ("a: {\n allowed: @x.paf\n}", "definitions.a.allowed: x.paf was not read"),
        ("a: {\n type: int\n default: x\n}", "a.default: value has the incorrect type string"),
        ("a: {\n default: 1\n allowed: 2 3\n}", "a.default: value is not among defined set: 1"),
        ("a: {\n type: int\n dictionary: {\n  definitions: {}\n }\n}", 'type: has to be "policy"'),
        ("a: {\n dictionary: 1\n}", "a.dictionary: has to be one policy"),
        ("a: {\n dictionary: {}\n}", "a.dictionary.definitions: a dictionary has one policy of this name"),
        ("a: 1", "definitions.a: a definition is one policy"),
    ],
)
def test_a_wrong_dictionary_is_refused(text: str, message: str) -> None:
    with pytest.raises(errors.RefusedError) as refusal:
        dictionary("target: x\ndefinitions: {\n" + text + "\n}\n")
    assert message in str(refusal.value)


def test_all_that_is_wrong_with_a_dictionary_is_told_at_once() -> None:
    with pytest.raises(errors.RefusedError) as refusal:
        dictionary("aim: x\ndefinitions: {\n a: {\n  b: 1\n }\n c: 1\n}")
    assert [line.split(": ")[1] for line in str(refusal.value).splitlines()] == [
        "aim",
        "definitions.a.b",
        "definitions.c",
    ]
    with pytest.raises(errors.RefusedError, match="definitions: a dictionary has one policy of this name"):
        dictionary("target: x\n")


def test_dictionaries_are_in_files_of_their_own(tmp_path: pathlib.Path) -> None:
    top, inner = tmp_path / "top.paf", tmp_path / "inner" / "b.yaml"
    inner.parent.mkdir()
    top.write_text("target: x\ndefinitions: {\n a: {\n  type: policy\n  dictionaryFile: inner/b.yaml\n }\n}")
    inner.write_text("definitions: {c: {type: int}}")
    made = dictionary_files.read(str(top))
    assert [each.name for each in made.check(test_paf.parsed("a: {c: x}"))] == ["a.c"]
    inner.write_text("definitions: {c: {dictionaryFile: ../top.paf}}")
    with pytest.raises(errors.RefusedError, match="refers to itself"):
        dictionary_files.read(str(top))


def test_the_policy_of_stages_is_checked() -> None:
    text = (
        'parameters: {\n runMode: "process"\n inputItems: {\n  a: {\n   typ: x\n   timeout: -1\n  }\n }\n}\n'
    )
    with pytest.raises(errors.RefusedError) as refusal:
        stage_dictionary.complete(test_paf.parsed(text))
    assert [line.split(": ")[1] for line in str(refusal.value).splitlines()] == [
        "parameters.runMode",
        "parameters.inputItems.a.typ",
        "parameters.inputItems.a.timeout",
    ]
    filled = test_paf.parsed("parameters: {}")
    stage_dictionary.complete(filled)
    assert filled.required("inputKeys.jobIdentity", str) == "jobIdentity"
    assert filled.required("outputKeys.outputDatasets", str) == "outputDatasets"


def test_both_names_of_one_thing_are_refused() -> None:
    item = "datasetId: {\n fromJobIdentity: visit\n fromClipboard: ccd\n}\n"
    with pytest.raises(
        errors.RefusedError, match=r"a\.paf:.*fromJobIdentity and fromClipboard mean the same"
    ):
        stage_dictionary.complete(
            test_paf.parsed("parameters: {\noutputItems: {\na: {\n" + item + "}\n}\n}\n")
        )


def test_all_problems_of_both_parts_are_told_at_once() -> None:
    text = "input: {\n parameters: {\n  inputItem: {}\n }\n}\noutput: {\n paramters: {}\n}\nfunktion: a.b\n"
    with pytest.raises(errors.RefusedError) as refusal:
        job_policies.parts(test_paf.parsed(text))
    assert [line.split(": ")[1] for line in str(refusal.value).splitlines()] == [
        "input.parameters.inputItem",
        "output.paramters",
        "funktion",
    ]
    with pytest.raises(errors.RefusedError, match=r"^a.paf: output: is missing.$"):
        job_policies.parts(test_paf.parsed("input: {}"))
    inputs, outputs = job_policies.parts(test_paf.parsed("input: {}\noutput: {}"))
    assert inputs.required("inputKeys.jobIdentity", str) == outputs.required("inputKeys.jobIdentity", str)


@pytest.mark.parametrize(
    ("name", "good", "bad"), [("boolean", "true", "1"), ("integer", "1", "1.0"), ("Policy", "{}", "x")]
)
def test_types_have_other_names(name: str, good: str, bad: str) -> None:
    made = dictionary(f"definitions: {{\n a: {{\n  type: {name}\n }}\n}}")
    assert made.check(test_paf.parsed(f"a: {good}")) == []
    assert [each.code for each in made.check(test_paf.parsed(f"a: {bad}"))] == [CODE.WRONG_TYPE]
