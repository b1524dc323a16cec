"""File templates: validity and expansion, against the specification and the reference."""

from typing import Any

import pytest
from aggregator.butler.datastores import paths, templates
from aggregator.butler.dimensions import universe
from aggregator.storage import errors

MINI = {
    "version": 1,
    "skypix": {"common": "htm1", "htm": {"class": "x.HtmPixelization", "max_level": 2}},
    "elements": {
        "instrument": {"keys": [{"name": "name", "type": "string", "length": 16}], "governor": True},
        "detector": {
            "keys": [{"name": "id", "type": "int"}, {"name": "full_name", "type": "string", "length": 32}],
            "requires": ["instrument"],
        },
        "visit": {
            "keys": [{"name": "id", "type": "int"}],
            "requires": ["instrument"],
            "metadata": [{"name": "seq_num", "type": "int"}, {"name": "angle", "type": "float"}],
        },
    },
    "topology": {"spatial": {"v": ["visit"]}},
}
UNIVERSE = universe.Universe.from_config(MINI)
RECORDS = {
    ("detector", ("Cam", 3)): {"full_name": "R0/S3.x#1"},
    ("visit", ("Cam", 7)): {"seq_num": None, "angle": 1.5},
}
EVERYTHING = "{run:/}/{instrument}/{visit}_{detector}"


def _path(template: str, names: list[str], values: paths.Values, **kwargs: Any) -> str:
    target = templates.Target("calexp", UNIVERSE.group(names), kwargs.pop("component", None))
    compiled = templates.compile_template(template, target, UNIVERSE)
    run, extension = kwargs.get("run", "u/me/r.1#x"), kwargs.get("extension", ".fits")
    path = compiled.bind(lambda element, key: RECORDS.get((element, key)), extension)
    return path(values, run, "01a200bd-8da7-7b43-b033-4920f5415d02")


VISIT_DETECTOR = ["visit", "detector"]
VALUES: paths.Values = ("Cam", 3, 7)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (EVERYTHING, "u/me/r.1#x/Cam/7_3.fits"),
        ("{run}/" + EVERYTHING, "u_me_r.1#x/u/me/r.1#x/Cam/7_3.fits"),
        ("{instrument}/{visit}_{detector}_{run}", "Cam/7_3_u_me_r_1HASHx.fits"),
        (
            "{run:/}/{instrument}{detector.full_name}/{detector.full_name}{visit:05d}",
            "u/me/r.1#x/CamR0_S3.x#1/R0_S3_xHASH100007.fits",
        ),
        ("{run:/}/{visit}{detector}{instrument}{band:?}", "u/me/r.1#x/73Cam.fits"),
        ("{run:/}/x-{band:?}-{visit}{detector}{instrument}", "u/me/r.1#x/x--73Cam.fits"),
        ("{run:/}/{visit}x-{band:?}-{detector}{instrument}", "u/me/r.1#x/7-3Cam.fits"),
        ("{run:/}/x/{band:?}/{visit}{detector}{instrument}", "u/me/r.1#x/x/73Cam.fits"),
        ("{band:?}/{visit}{detector}{instrument}/{run}", "73Cam/u_me_r_1HASHx.fits"),
        ("{run:/}/{visit.seq_num}{visit}{detector}{instrument}", "u/me/r.1#x/None73Cam.fits"),
        ("{run:/}/{visit.angle:.2f}{visit}{detector}{instrument}", "u/me/r.1#x/1_5073Cam.fits"),
        ("{run:/}/{visit.typo:?}{visit}{detector}{instrument}", "u/me/r.1#x/73Cam.fits"),
        ("{run:/}/{band|visit.id|visit}{detector}{instrument!r}", "u/me/r.1#x/73'Cam'.fits"),
        ("{detector}{instrument}{visit}{run:/}", "3Cam7u/me/r_1HASHx.fits"),
        (
            "{instrument}/{id!s:.8}{visit}{detector}{datasetType}{id}",
            "Cam/01a200bd73calexp01a200bd-8da7-7b43-b033-4920f5415d02.fits",
        ),
        ("{run:/}/{{%s}}{visit}{detector}{instrument}", "u/me/r.1#x/{%s}73Cam.fits"),
    ],
)
def test_expansion(template: str, expected: str) -> None:
    assert _path(template, VISIT_DETECTOR, VALUES) == expected


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{instrument}/{visit}_{detector}", "neither 'run' nor 'id'"),
        ("{run}/{datasetType}", "no dimension"),
        ("{run}/{instrument}/{visit}", "'detector'.* is missing"),
        ("{run}/{collection}/" + EVERYTHING, "collection"),
        ("../" + EVERYTHING, "leaves"),
        ("{id}/" + EVERYTHING, "file name"),
        (EVERYTHING + "{tract}", "'tract'.* no dimension"),
        (EVERYTHING + "{component}", "component"),
        (EVERYTHING + "{visit.typo}", "'visit.typo' is neither"),
        (EVERYTHING + "{visit.region}", "can't be predicted"),
        (EVERYTHING + "{visit.a.b}", "more than one period"),
        (EVERYTHING + "{visit", "malformed"),
        (EVERYTHING + "{datasetType:d}", "can't be formatted"),
    ],
)
def test_invalid_templates_are_refused(template: str, problem: str) -> None:
    with pytest.raises(errors.RefusedError, match=problem):
        _path(template, VISIT_DETECTOR, VALUES)


def test_component_has_to_be_in_the_template_of_a_component() -> None:
    assert _path(EVERYTHING + ".{component:?}", VISIT_DETECTOR, VALUES, component="wcs").endswith(
        "7_3_wcs.fits"
    )
    with pytest.raises(errors.RefusedError, match="wcs"):
        _path(EVERYTHING, VISIT_DETECTOR, VALUES, component="wcs")


def test_skypix_stands_for_the_only_pixelization() -> None:
    assert _path("{run:/}/{skypix}", ["htm2"], (33,)) == "u/me/r.1#x/33.fits"
    assert _path("{run:/}/{htm2}-{skypix.id:?}", ["htm2"], (33,)) == "u/me/r.1#x/33-33.fits"
    with pytest.raises(errors.RefusedError, match="skypix"):
        _path("{run:/}/{skypix}", ["htm2", "htm1"], (3, 33))


def test_forbidden_characters_are_replaced() -> None:
    run = 'a b<c>:"\\|?*/d'
    assert _path("{run:/}/{skypix}", ["htm2"], (33,), run=run) == "a_b_c_______/d/33.fits"


def test_quoted_text_is_unquoted_as_by_the_reference() -> None:
    assert _path("{run:/}/{skypix}", ["htm2"], (33,), run="a%20b") == "a b/33.fits"
    assert _path("{run:/}/{skypix}", ["htm2"], (33,), run="a%zzb%s") == "a%zzb%s/33.fits"
    with pytest.raises(errors.AggregatorError, match="ambiguous"):
        _path("{run:/}/{skypix}", ["htm2"], (33,), run="a%20b#c")


@pytest.mark.parametrize("run", ["..", "../../etc", "a/../../b", "%2E%2E/b", "%2Fetc/b", "/../b"])
def test_no_path_leads_out_of_the_datastore(run: str) -> None:
    if run == "/../b":
        # There is nothing above the root of a file system.
        assert _path("{run:/}/{skypix}", ["htm2"], (33,), run=run) == "b/33.fits"
        return
    with pytest.raises(errors.RefusedError, match="outside of the datastore"):
        _path("{run:/}/{skypix}", ["htm2"], (33,), run=run)


def test_environment_does_not_slip_into_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRICE", "3")
    assert _path("{run:/}/{skypix}", ["htm2"], (33,), run="a$COST") == "a$COST/33.fits"
    with pytest.raises(errors.AggregatorError, match="environment"):
        _path("{run:/}/{skypix}", ["htm2"], (33,), run="a$PRICE")


def test_extension_of_a_directory_is_replaced_if_the_file_name_is_empty() -> None:
    assert _path("{skypix}/{run:/}/{band:?}", ["htm2"], (33,), run="r/a.b.gz") == "33/r/a.fits"
    with pytest.raises(errors.AggregatorError, match="fragment"):
        _path("{skypix}/{run:/}/{band:?}", ["htm2"], (33,), run="r/a#b")


def test_missing_record_is_an_error_only_when_the_path_needs_it() -> None:
    template = EVERYTHING + "{detector.full_name}"
    with pytest.raises(errors.AggregatorError, match=r"calexp.*no dimension record of detector \('Cam', 4\)"):
        _path(template, VISIT_DETECTOR, ("Cam", 4, 7))


def test_unsuitable_value_and_wrong_data_id_are_errors() -> None:
    with pytest.raises(errors.AggregatorError, match=r"calexp.*None does not suit"):
        _path(EVERYTHING + "{visit.seq_num:05d}", VISIT_DETECTOR, VALUES)
    with pytest.raises(errors.AggregatorError, match=r"calexp.*2 values instead of 3"):
        _path(EVERYTHING, VISIT_DETECTOR, VALUES[:2])


def test_needed_attributes_leave_out_what_the_data_id_has() -> None:
    template = (
        EVERYTHING + "{detector.full_name}{detector.id}{visit.instrument}{visit.typo:?}{band.x|visit.angle}"
    )
    target = templates.Target("calexp", UNIVERSE.group(VISIT_DETECTOR))
    needed = templates.compile_template(template, target, UNIVERSE).needed
    assert needed == {("detector", "full_name"), ("visit", "angle")}


def test_memory_of_texts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "_MEMO", 10)
    target = templates.Target("calexp", UNIVERSE.group(["htm2"]))
    path = templates.compile_template("{run:/}/{skypix:04d}", target, UNIVERSE).bind(lambda *_: None, "")
    for round_ in range(2):
        assert [path((i,), f"r{i}", "") for i in range(50)] == [f"r{i}/{i:04d}" for i in range(50)], round_


# Against the reference.
