"""File templates give the paths of the reference."""

from typing import Any

import hypothesis
import pytest
from aggregator.butler.datastores import templates
from aggregator.storage import errors
from hypothesis import strategies as st

DIMENSIONS = [
    "instrument",
    "visit",
    "detector",
    "exposure",
    "band",
    "tract",
    "patch",
    "htm7",
    "healpix9",
    "group",
]


NAMES = st.sampled_from(
    [
        *(
            "run",
            "id",
            "datasetType",
            "component",
            "skypix",
            "instrument",
            "visit",
            "detector",
            "band",
            "tract",
        ),
        *("patch", "htm7", "exposure", "day_obs", "physical_filter", "skymap", "group", "subfilter", "bogus"),
        *(
            "detector.full_name",
            "detector.raft",
            "visit.day_obs",
            "visit.name",
            "visit.seq_num",
            "exposure.obs_id",
        ),
        *("visit.zenith_angle", "skypix.id", "htm7.id", "instrument.visit_max", "visit.bogus", "band.name"),
        *("visit_detector_region.detector", "exposure.can_see_sky", "visit.physical_filter", "run.x"),
    ]
)


SPECS = st.sampled_from(["", "", "", "?", "?", "/", "/?", "?/", "05d", ">6", "?>6", "s", ".3", "x"])
FIELD = st.builds(
    lambda names, conversion, spec: "{" + "|".join(names) + conversion + (":" + spec if spec else "") + "}",
    st.lists(NAMES, min_size=1, max_size=3),
    st.sampled_from(["", "", "", "", "!s", "!r"]),
    SPECS,
)


LITERAL = st.sampled_from(["/", "/", "_", ".", "", "-x", "/a.b/", "#", "{{", "%", "//", "%s"])
GENTLE = st.builds(
    lambda names, spec: "{" + "|".join(names) + ":" + spec + "}",
    st.lists(NAMES.filter(lambda name: name not in ("id", "run.x")), min_size=1, max_size=3),
    st.sampled_from(["?", "?", "/?"]),
)


LOOSE = st.lists(st.tuples(LITERAL, FIELD), min_size=1, max_size=6).map(
    lambda x: "".join(a + b for a, b in x)
)


TAIL = st.lists(st.tuples(LITERAL, GENTLE), max_size=4).map(lambda x: "".join(a + b for a, b in x))
TEXT = st.one_of(
    st.sampled_from(
        ["g", "a b:c/d.e#f%g~h'i", "..", ".", "x.tar.gz", "%41x", "R0/S1.x", ";p", "é", "{0}", "%d"]
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="$~\0\r\n\t"), min_size=1, max_size=6),
)


NUMBER = st.integers(0, 10**13)


def _values(data: st.DataObject, keys: tuple[str, ...]) -> dict[str, Any]:
    texts = {"instrument", "band", "physical_filter", "skymap", "group"}
    values = {key: data.draw(TEXT if key in texts else NUMBER, key) for key in keys}
    for name in ("detector.full_name", "detector.raft", "visit.name", "exposure.obs_id"):
        values[name] = data.draw(TEXT, name)
    values["visit.seq_num"] = data.draw(st.none() | NUMBER, "seq_num")
    values["visit.zenith_angle"] = data.draw(st.none() | st.floats(0, 90), "angle")
    values["exposure.can_see_sky"] = data.draw(st.none() | st.booleans(), "sky")
    return values


def _reference_path(template: str, ref: Any) -> str | None:
    """Return the reference's path, or `None` if it finds the template or the values unsuitable."""
    from lsst.daf.butler._location import LocationFactory
    from lsst.daf.butler.datastore.file_templates import FileTemplate, FileTemplateValidationError

    try:
        compiled = FileTemplate(template)
        compiled.validateTemplate(ref)
        location = LocationFactory("/nowhere/").fromPath(compiled.format(ref), trusted_path=True)
    except (FileTemplateValidationError, KeyError, ValueError, TypeError, AttributeError, RuntimeError):
        return None
    location.updateExtension(".json")
    return str(location.pathInStore.path)


@pytest.mark.parametrize("style", ["loose", "complete"])
@hypothesis.given(data=st.data())
def test_paths_are_the_references(style: str, data: st.DataObject) -> None:
    daf = pytest.importorskip("lsst.daf.butler")
    from tests.helpers import butler_reference

    world = butler_reference.Data(daf.DimensionUniverse())
    names = data.draw(st.sets(st.sampled_from(DIMENSIONS), max_size=4), "dimensions")
    group = world.ours.group(names)
    template = data.draw(LOOSE if style == "loose" else TAIL, "template")
    if style == "complete":
        # Valid for the dimensions, so that most examples come as far as a path.
        others = ["run:/", data.draw(st.sampled_from(["run", "datasetType"])), "component:?"]
        parts = [*group.required, *others]
        fields = ["{" + name + "}" for name in data.draw(st.permutations(parts))]
        joints = data.draw(st.lists(LITERAL, min_size=len(fields), max_size=len(fields)))
        template = "".join(a + b for a, b in zip(joints, fields, strict=True)) + template
    values = _values(data, group.keys)
    component = data.draw(st.sampled_from([None, None, "wcs"]), "component")
    run = data.draw(st.sampled_from(["u/me/run", "a b#c/d.e", "r%s"]), "run")
    data_id = world.coordinate(sorted(names), values)
    dataset_type = daf.DatasetType("calexp", data_id.dimensions, "ExposureF")
    ref = daf.DatasetRef(dataset_type, data_id, run=run)
    expected = _reference_path(template, ref.makeComponentRef(component) if component else ref)

    target = templates.Target("calexp", group, component)
    path: str | None
    try:
        compiled = templates.compile_template(template, target, world.ours)
        wanted: dict[str, set[str]] = {}
        for element, attribute in compiled.needed:
            wanted.setdefault(element, set()).add(attribute)
        bound = compiled.bind(world.table(wanted).find, ".json")
        path = bound(data_id.full_values, run, str(ref.id))
    except errors.AggregatorError as error:
        hypothesis.assume("ambiguous" not in str(error) and "outside of" not in str(error))
        path = None
    assert path == expected
