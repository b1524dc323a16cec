"""Stages that read and write items: the worked examples and each rule of stages.md sections 3 and 7 to 10."""

from __future__ import annotations

import logging
import pathlib
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from aggregator.butler.configuration import repository_config
from aggregator.butler.registry import batch, new_ids, registry
from aggregator.stages import (
    clipboards,
    dataset_specifiers,
    io_stages,
    locations,
    property_sets,
    repository_butler,
    slices,
    stage,
)
from aggregator.stages.policies import paf, policy
from aggregator.storage import errors

import aggregator

MASTER = stage.Surroundings()
SLICE = stage.Surroundings(rank=0, universe_size=2)


@pytest.fixture(autouse=True)
def _map(tmp_path: pathlib.Path) -> Iterator[None]:
    locations.set_map({"input": str(tmp_path), "output": str(tmp_path / "out")})
    yield
    locations.set_map(None)


def parsed(text: str) -> policy.Policy:
    result = policy.Policy(policy.Origin("a.paf"))
    paf.parse(text, result)
    return result


def board(**items: Any) -> clipboards.Clipboard:
    clipboard = clipboards.Clipboard()
    for key, item in items.items():
        clipboard.put(key, item)
    return clipboard


def process(made: stage.Stage, clipboard: clipboards.Clipboard) -> clipboards.Clipboard:
    """Run the parallel part of a stage in this process."""
    part = made.parallel(SLICE)
    try:
        assert isinstance(part, stage.ParallelProcessing)
        part.process(clipboard)
    finally:
        part.close()
    return clipboard


def read(text: str, **items: Any) -> clipboards.Clipboard:
    return process(io_stages.input_stage(parsed(text)), board(**items))


def write(text: str, **items: Any) -> clipboards.Clipboard:
    return process(io_stages.output_stage(parsed(text)), board(**items))


def refused(action: Any, text: str, **items: Any) -> str:
    with pytest.raises(errors.AggregatorError) as caught:
        action(text, **items)
    return str(caught.value)


def dataset(kind: str, **ids: Any) -> dataset_specifiers.Dataset:
    return dataset_specifiers.Dataset(kind, ids)


PLACE = """
            storagePolicy: {
                storage: BoostStorage
                location: %(output)/theProperty.%(visitId)
            }
"""

WRITES = (
    """
parameters: {
    additionalData: "visitId=tcsEvent.visitId"
    outputItems: {
        theProperty: {"""
    + PLACE
    + """
        }
    }
}
"""
)
READS = (
    """
parameters: {
    runMode: "postprocess"
    additionalData: "visitId=tcsEvent.visitId"
    inputItems: {
        theProperty: {
            type: PropertySet
            pythonType: aggregator.stages.property_sets.PropertySet"""
    + PLACE
    + """
        }
    }
}
"""
)


def test_slices_write_what_the_master_reads(tmp_path: pathlib.Path) -> None:
    """Example 1."""
    event = property_sets.PropertySet({"visitId": "fov391"})
    written = property_sets.PropertySet({"str": "foo", "num": 42})
    write(WRITES, tcsEvent=event, theProperty=written)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["theProperty.fov391"]
    clipboard = board(tcsEvent=event)
    part = io_stages.input_stage(parsed(READS)).serial(MASTER)
    assert isinstance(part, stage.SerialProcessing)
    part.preprocess(clipboard)
    assert not clipboard.contains("theProperty")
    part.postprocess(clipboard)
    part.close()
    result = clipboard.get("theProperty")
    assert result == {"str": "foo", "num": 42}
    assert isinstance(result, property_sets.PropertySet)


@pytest.mark.parametrize(
    ("mode", "done"), [("", []), ("preprocess", ["preprocess"]), ("postprocess", ["postprocess"])]
)
def test_the_run_mode_tells_when_the_master_acts(tmp_path: pathlib.Path, mode: str, done: list[str]) -> None:
    text = WRITES.replace("parameters: {", f'parameters: {{\n    runMode: "{mode}"') if mode else WRITES
    clipboard = board(tcsEvent={"visitId": 7}, theProperty={"a": 1})
    part = io_stages.output_stage(parsed(text)).serial(MASTER)
    assert isinstance(part, stage.SerialProcessing)
    acted = []
    for name, phase in (("preprocess", part.preprocess), ("postprocess", part.postprocess)):
        phase(clipboard)
        if (tmp_path / "out" / "theProperty.7").exists():
            acted.append(name)
            (tmp_path / "out" / "theProperty.7").unlink()
    part.close()
    assert acted == done


def test_slices_act_whatever_the_run_mode(tmp_path: pathlib.Path) -> None:
    text = WRITES.replace("parameters: {", 'parameters: {\n    runMode: "preprocess"')
    write(text, tcsEvent={"visitId": 7}, theProperty={"a": 1})
    assert (tmp_path / "out" / "theProperty.7").exists()


LISTED = """
parameters: {
    additionalData: "root=root" "field=ps.field"
    inputItems: {
        image: {
            type: Json
            pythonType: builtins.list
            datasetType: postIsr
            storage: XmlStorage
            location: "%(input)/%(root)/%(field)/raw-%(visit)-e%03d(snap)-c%03d(ccd)-a%03d(amp).fits"
        }
    }
}
"""


def test_a_list_of_datasets_is_read(tmp_path: pathlib.Path) -> None:
    """Example 2, and what becomes of one dataset, and of none."""
    directory = tmp_path / "raw" / "D4"
    directory.mkdir(parents=True)
    source = one("storage: XmlStorage\n location: %(p)", "additionalData: p=path", kind="output")
    for amp in (0, 1):
        write(source, i=[amp], path=str(directory / f"raw-707911-e000-c013-a{amp:03}.fits"))
    ids = {"visit": 707911, "snap": 0, "ccd": 13}
    listed = [dataset("postIsr", amp=0, **ids), dataset("raw", amp=5), dataset("postIsr", amp=1, **ids)]
    given = {"root": "raw", "ps": property_sets.PropertySet({"field": "D4"})}
    assert read(LISTED, inputDatasets=listed, **given).get("image") == [[0], [1]]
    assert read(LISTED, inputDatasets=listed[1:], **given).get("image") == [1]
    assert read(LISTED, inputDatasets=listed[1:2], **given).get("image") == []
    # Ids count more than additional data of the same name.
    more = [dataset("postIsr", amp=1, field="D5", **ids)]
    assert "D5/raw-707911" in refused(read, LISTED, inputDatasets=more, **given)
    for wrong in ({}, {"inputDatasets": "postIsr"}, {"inputDatasets": ["postIsr"]}):
        message = refused(read, LISTED, **given, **wrong)
        assert "needs a list of datasets, 'inputDatasets', on the clipboard; there is none." in message
    other = "inputKeys: {\n inputDatasets: mine\n}\n" + LISTED
    assert read(other, mine=listed, **given).get("image") == [[0], [1]]


IDENTITY = {"name": "foo", "visit": 707911, "snap": 0, "ccd": 13, "filter": "r"}
NAMED = """
parameters: {
    additionalData: "root=root"
    additionalData: "field=ps.field"
    outputItems: {
        ps: {
            datasetId: {
                datasetType: postIsr
                fromJobIdentity: "name" "visit" "ccd" "snap" "filter"
                set: {
                    field: deep
                }
            }
            storagePolicy: {
                storage: BoostStorage
                location: %(output)/PS-%(field).boost
            }
        }
    }
}
"""


def test_a_dataset_is_written_and_listed(tmp_path: pathlib.Path) -> None:
    """Example 3."""
    item = property_sets.PropertySet({"field": "D4"})
    clipboard = write(NAMED, root="raw", ps=item, jobIdentity=IDENTITY)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["PS-deep.boost"]
    assert clipboard.get("outputDatasets") == [dataset("postIsr", **IDENTITY, field="deep")]


def test_the_older_name_of_the_keys_means_the_same(tmp_path: pathlib.Path) -> None:
    text = NAMED.replace("fromJobIdentity", "fromClipboard").replace('additionalData: "field=ps.field"', "")
    assert len(write(text, root="raw", ps={"a": 1}, jobIdentity=IDENTITY).get("outputDatasets")) == 1
    assert (tmp_path / "out" / "PS-deep.boost").exists()


def test_ids_of_the_job_count_more_than_those_of_the_policy(tmp_path: pathlib.Path) -> None:
    text = "outputKeys: {\n outputDatasets: mine\n}\ninputKeys: {\n jobIdentity: job\n}\n"
    text += NAMED.replace("field: deep", "field: deep\n visit: 1")
    earlier = dataset("raw", visit=2)
    clipboard = write(text, root="r", ps={"field": "D4"}, job={**IDENTITY, "visit": 5}, mine=[earlier])
    assert clipboard.get("mine") == [earlier, dataset("postIsr", **{**IDENTITY, "visit": 5}, field="deep")]
    message = refused(write, NAMED, root="r", ps={"field": "D4"}, jobIdentity={"name": "foo"})
    assert message.startswith(
        "a.paf:7: parameters.outputItems.ps.datasetId: there is no 'visit' in the identity"
    )
    message = refused(write, NAMED, root="r", ps={"field": "D4"})
    assert "needs the identity of the job, a mapping 'jobIdentity' on the clipboard" in message


def test_what_was_not_written_is_not_listed(tmp_path: pathlib.Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "PS-deep.boost").write_text("of somebody else")
    clipboard = board(root="r", ps={"field": "D4"}, jobIdentity=IDENTITY)
    with pytest.raises(errors.AggregatorError, match=r"PS-deep\.boost"):
        process(io_stages.output_stage(parsed(NAMED)), clipboard)
    assert not clipboard.contains("outputDatasets")
    assert (tmp_path / "out" / "PS-deep.boost").read_text() == "of somebody else"


def test_a_location_of_the_identity_of_the_job(tmp_path: pathlib.Path) -> None:
    """Example 5."""
    keys = ("visit", "raft", "sensor", "channel", "snap")
    lines = "\n".join(f'additionalData: "{key}=jobIdentity.{key}"' for key in keys)
    text = f"""
parameters: {{
    {lines}
    inputItems: {{
        rawCameraImage: {{
            type: Text
            pythonType: builtins.str
            storagePolicy: {{
                storage: XmlStorage
                location: "%(input)/imSim/imsim_%(visit)_%(raft)_%(sensor)_%(channel)_%(snap).fits"
            }}
        }}
    }}
}}
"""
    identity = dict(zip(keys, (85751839, "R23", "S11", "C00", "E000"), strict=True))
    assert f"{tmp_path}/imSim/imsim_85751839_R23_S11_C00_E000.fits" in refused(
        read, text, jobIdentity=identity
    )
    writes = text.replace("inputItems", "outputItems").replace("            pythonType: builtins.str\n", "")
    write(writes.replace("/imSim/", "/"), jobIdentity=identity, rawCameraImage="pixels")
    assert (tmp_path / "imsim_85751839_R23_S11_C00_E000.fits").exists()
    result = read(text.replace("/imSim/", "/"), jobIdentity=identity)
    assert result.get("rawCameraImage") == "pixels"


def test_the_outputs_of_the_notes(tmp_path: pathlib.Path) -> None:
    """Example 6."""
    text = """
parameters: {
    outputItems: {
        PS: {
            datasetId: {
                datasetType: postISR
                fromClipboard: "visit" "ccd" "amp"
                set: {
                    field: deep
                }
            }
            storagePolicy: {
                storage: BoostStorage
                location: %(output)/PS-%(field)-v%(visit)-c%(ccd)-a%(amp).boost
            }
        }
    }
}
"""
    clipboard = write(text, PS={"a": 1}, jobIdentity={"visit": 7, "ccd": 3, "amp": 1})
    assert (tmp_path / "out" / "PS-deep-v7-c3-a1.boost").exists()
    assert str(clipboard.get("outputDatasets")[0]) == "postISR-amp1-ccd3-fielddeep-visit7"


def test_the_samples_of_the_notes() -> None:
    """Example 7: policies of the shape of the notes' samples, of which the first is never closed."""
    inputs = parsed(
        "parameters: {\n butler: {\n  mapperName: lsst.obs.lsstSim.LsstSimMapper\n"
        "  mapperPolicy: {\n   root: %(input)\n  }\n }\n inputItems: {\n  BiasExposure: {\n"
        "   datasetType: bias\n   datasetId: {\n"
        '    fromJobIdentity: "visit" "snap" "raft" "sensor" "channel"\n   }\n  }\n }\n}\n'
    )
    keys = inputs.array("parameters.inputItems.BiasExposure.datasetId.fromJobIdentity", str)
    assert keys == ["visit", "snap", "raft", "sensor", "channel"]
    assert inputs.required("parameters.butler.mapperPolicy.root", str) == "%(input)"
    with pytest.raises(errors.RefusedError) as caught:
        parsed(
            "# c\nparameters: {\n outputKeys: {\n  diffIm: {\n   storagePolicy: {\n    storage: Fits\n   }\n"
        )
    assert str(caught.value) == "a.paf:2: parameters: the file ends before the '}' of this '{'."


# Rules of sections 7 and 8.

ITEM = "storage: XmlStorage\n location: %(output)/a-%(itemName)"


def one(storages: str = ITEM, before: str = "", after: str = "", kind: str = "input") -> str:
    types = "type: Json\n pythonType: builtins.list\n" if kind == "input" else ""
    places = "".join(f"storagePolicy: {{\n {each}\n}}\n" for each in storages.split("|"))
    return f"parameters: {{\n {before}\n{kind}Items: {{\n i: {{\n {types}{places}{after}\n}}\n}}\n}}\n"


def test_no_items_are_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    for action, what in ((read, "No inputItems found."), (write, "No outputItems found.")):
        assert action("parameters: {}", a=1).keys() == ["a"]
        assert caplog.records[-1].levelno == logging.WARNING
        assert what in caplog.text
    write(one(kind="output"), other=1)
    assert "No items were output." in caplog.text


def test_missing_items_are_skipped_unless_they_are_required(tmp_path: pathlib.Path) -> None:
    write(one(kind="output", after="required: false"), other=1)
    assert not (tmp_path / "out").exists()
    message = refused(write, one(kind="output", after="required: true"), other=1)
    assert message.startswith("a.paf:4: parameters.outputItems.i: Missing output item: i.")


def test_a_refusal_after_something_was_written_is_none() -> None:
    text = one(kind="output").replace(
        "i: {", "h: {\n storagePolicy: {\n" + ITEM + "\n}\n}\n i: {\n required: true", 1
    )
    with pytest.raises(errors.AggregatorError, match="Missing output item: i") as caught:
        write(text, h=[1])
    assert caught.value.exit_code == 1
    with pytest.raises(errors.RefusedError, match="Missing output item: i"):
        write(text.replace("h: {", "g: {"), h=[1])


def test_all_storages_are_written_and_all_are_read(tmp_path: pathlib.Path) -> None:
    both = ITEM + "|storage: BoostStorage\n location: %(StorageLocation.XmlStorage)".replace(
        "(StorageLocation.XmlStorage)", "(output)/b"
    )
    write(one(both, kind="output"), i=[1])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a-i", "b"]
    assert read(one(ITEM)).get("i") == [1]


def test_all_storages_are_written_or_none(tmp_path: pathlib.Path) -> None:
    both = ITEM + "|storage: BoostStorage\n location: %(output)/b"
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b").write_text("of somebody else")
    refused(write, one(both, kind="output"), i=[1])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b"]


def test_locations_are_additional_data_of_later_items(tmp_path: pathlib.Path) -> None:
    text = """
parameters: {
    outputItems: {
        a: {
            storagePolicy: {
                storage: XmlStorage
                location: %(output)/a
            }
        }
        b: {
            storagePolicy: {
                storage: BoostStorage
                location: %(output)/b
            }
        }
    }
}
"""
    seen: list[Mapping[str, Any]] = []

    class Noting(io_stages.OutputParallel):
        def setup(self) -> None:
            super().setup()
            persist = self._objects.persist
            object.__setattr__(self, "_objects", Spy(persist))

    class Spy:
        def __init__(self, persist: Any) -> None:
            self._persist = persist

        def persist(self, item: Any, type_name: str, places: Any, data: property_sets.PropertySet) -> None:
            seen.append(data.as_dict())
            self._persist(item, type_name, places, data)

    process(stage.Stage(parsed(text), parallel_class=Noting), board(a=[1], b=[2]))
    first, second = f"{tmp_path}/out/a", f"{tmp_path}/out/b"
    common = {"runId": "user-driven", "sliceId": 0, "universeSize": 2}
    assert seen == [
        {**common, "itemName": "a", "StorageLocation": {"XmlStorage": first}},
        {**common, "itemName": "b", "StorageLocation": {"XmlStorage": first, "BoostStorage": second}},
    ]


def test_the_first_storage_makes_an_object_and_others_update_it() -> None:
    places = [ITEM, "storage: BoostStorage\n location: %(output)/b"]
    write(one(places[0], kind="output"), i={"a": 1, "b": {"c": 2}})
    write(one(places[1], kind="output"), i={"b": {"d": 3}, "a": 4})
    text = one("|".join(places)).replace("Json", "PropertySet").replace("builtins.list", "builtins.dict")
    assert read(text).get("i") == {"a": 4, "b": {"d": 3}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            one().replace("builtins.list", "nowhere.Class"),
            "a.paf:6: parameters.inputItems.i.pythonType: can't be imported",
        ),
        (one().replace("pythonType: builtins.list", ""), "parameters.inputItems.i.pythonType: is missing."),
        (one().replace("type: Json", ""), "parameters.inputItems.i.type: is missing."),
        (one().replace("builtins.list", "builtins.dict"), "a-i has a list, and no builtins.dict."),
        (one().replace("builtins.list", "os.path"), "i.pythonType: os.path is no class."),
        (one("storage: NoStorage\n location: x"), "there is no 'NoStorage'; there are FitsStorage, "),
        (
            one("storage: XmlStorage\n location: %(x)"),
            "storagePolicy.location: %(x): Unknown substitution: x.",
        ),
        (one("storage: XmlStorage"), "storagePolicy.location: no value available for required parameter"),
        (
            "parameters: {\ninputItems: {\n i: {\n type: Json\n pythonType: builtins.list\n}\n}\n}",
            "storagePolicy: is missing.",
        ),
        (one(after="datasetType: x"), "i.storage: is missing."),
        (one(before="runMode: process"), "a.paf:2: parameters.runMode: value is not among defined set"),
    ],
)
def test_inputs_that_can_not_be_read(text: str, message: str) -> None:
    write(one(kind="output"), i=[1])
    assert message in refused(read, text, inputDatasets=[dataset("x")])


def test_outputs_without_storage_are_refused() -> None:
    text = "parameters: {\noutputItems: {\n i: {\n}\n}\n}"
    assert "parameters.outputItems.i.storagePolicy: is missing." in refused(write, text, i=1)
    assert "'outputDatasets' on the clipboard is a str" in refused(
        write, one(kind="output"), i=[1], outputDatasets="x"
    )


def test_files_are_waited_for_if_that_is_wanted(tmp_path: pathlib.Path) -> None:
    assert "there is no such file" in refused(read, one())
    start = time.monotonic()
    assert "was not there for 0.6 s" in refused(read, one(after="timeout: 0.6"))
    assert time.monotonic() - start >= 0.6
    writer = threading.Timer(0.3, write, [one(kind="output")], {"i": [1]})
    writer.start()
    assert read(one(after="timeout: 120")).get("i") == [1]
    writer.join()
    assert "has to be a number of seconds" in refused(read, one(after="timeout: long"))


# Section 9, and the butler methods.

CAMERA = "Sim"
RECORDS = {
    "instrument": [{"name": CAMERA}],
    "physical_filter": [{"instrument": CAMERA, "name": "r-1", "band": "r"}],
    "detector": [{"instrument": CAMERA, "id": n, "full_name": f"R23_S{n}"} for n in (10, 11)],
    "day_obs": [{"instrument": CAMERA, "id": 20100422}],
    "visit": [
        {"instrument": CAMERA, "id": 85751839, "name": "v", "physical_filter": "r-1", "day_obs": 20100422}
    ],
}
KINDS = ("bias", "dark", "flat", "fringe")
JOB = {"visit": 85751839, "snap": 0, "raft": "R23", "sensor": "S11", "channel": "C00"}


class SensorMapper:
    """Of the shape of the mappers of 2010: it knows rafts, sensors and channels."""

    def __init__(self, settings: policy.Policy) -> None:
        assert settings.required("root", str).startswith("/")

    def map(self, dataset_type: str, ids: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        data_id = {"instrument": CAMERA, "detector": int(ids["sensor"].removeprefix("S"))}
        return dataset_type, {**data_id, "visit": ids["visit"]} if dataset_type == "raw" else data_id

    def standardize(self, dataset_type: str, item: Any, data_id: Mapping[str, Any]) -> Any:
        return {**item, "standardized": dataset_type}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Make a repository with raw images and calibrations."""
    root = tmp_path_factory.mktemp("stages") / "repository"
    aggregator.create_repository(root)
    with registry.open_repository(repository_config.load(root), writeable=True) as opened:
        for element, records in RECORDS.items():
            opened.dimensions.insert(element, records)
        opened.dataset_types.register("raw", "StructuredDataDict", ["visit", "detector"])
        for kind in (*KINDS, "postISR"):
            opened.dataset_types.register(kind, "StructuredDataDict", ["detector"])
    butler = repository_butler.RepositoryButler(parsed(f"repository: {root}\nrun: in\ninstrument: {CAMERA}"))
    for ccd in (10, 11):
        butler.put({"raw": ccd}, "raw", {"visit": 85751839, "ccd": ccd})
        for kind in KINDS:
            butler.put({kind: ccd}, kind, {"detector": ccd})
    butler.close()
    return root


def by_butler(root: pathlib.Path, items: str, kind: str = "input", more: str = "") -> str:
    head = f"repository: {root}\n collections: in\n instrument: {CAMERA}\n {more}"
    return f"parameters: {{\n butler: {{\n {head}\n}}\n{kind}Items: {{\n {items}\n}}\n}}\n"


def named(name: str, kind: str, ids: str, more: str = "") -> str:
    return f"{name}: {{\n datasetType: {kind}\n datasetId: {{\n {ids}\n}}\n {more}\n}}\n"


def test_a_butler_reads_all_items(repository: pathlib.Path) -> None:
    """Example 4."""
    items = named("rawCameraImage", "raw", "fromInputDatasets: true")
    keys = 'fromJobIdentity: "visit" "snap" "raft" "sensor" "channel"'
    for kind in KINDS:
        items += named(f"{kind}Exposure", kind, keys)
    mapper = "mapperName: tests.system.test_stages.SensorMapper\n mapperPolicy: {\n root: %(input)\n}"
    text = by_butler(repository, items, more=mapper)
    clipboard = read(text, inputDatasets=[dataset("raw", **JOB), dataset("bias", x=1)], jobIdentity=JOB)
    assert clipboard.get("rawCameraImage") == {"raw": 11, "standardized": "raw"}
    for kind in KINDS:
        assert clipboard.get(f"{kind}Exposure") == {kind: 11, "standardized": kind}


def test_several_datasets_are_a_list_and_none_an_error(repository: pathlib.Path) -> None:
    text = by_butler(repository, named("i", "bias", "fromInputDatasets: true\n set: {\n detector: 11\n}"))
    listed = [dataset("bias", ccd=10), dataset("bias", ccd=11), dataset("dark", ccd=11)]
    assert read(text, inputDatasets=listed).get("i") == [{"bias": 10}, {"bias": 11}]
    message = refused(read, text, inputDatasets=listed[2:])
    assert message.endswith("No input datasets of type bias for item i.")


def test_ids_come_from_the_job_and_then_from_the_policy(repository: pathlib.Path) -> None:
    ids = 'fromJobIdentity: "ccd"\n set: {\n ccd: 10\n filter: r\n}'
    assert read(by_butler(repository, named("i", "bias", ids)), jobIdentity={"ccd": 11}).get("i") == {
        "bias": 10
    }
    ids = "fromInputDatasets: false\n set: {\n detector: 11\n}"
    assert read(by_butler(repository, named("i", "bias", ids))).get("i") == {"bias": 11}
    message = refused(read, by_butler(repository, named("i", "bias", "fromInputDatasets: false")))
    assert message.endswith("datasetId: has to have fromInputDatasets: true, fromJobIdentity, or set.")
    ids = 'fromJobIdentity: "amp"\n set: {\n ccd: 10\n}'
    text = by_butler(repository, named("i", "bias", ids), more="mapperPolicy: {\n keys: {\n amp: visit\n}\n}")
    assert read(text, jobIdentity={"amp": 85751839}).get("i") == {"bias": 10}


def test_what_is_not_required_is_left_out(repository: pathlib.Path) -> None:
    ids = "set: {\n ccd: 11\n visit: 5\n}"
    text = by_butler(repository, named("i", "raw", ids))
    assert "there is no raw with {'ccd': 11, 'visit': 5}, which item i needs." in refused(read, text)
    with pytest.raises(errors.AggregatorError) as caught:
        read(text)
    assert caught.value.exit_code == 1
    text = by_butler(repository, named("i", "raw", ids, "required: false"))
    assert not read(text, i="of before").contains("i")


def test_datasets_are_waited_for_if_that_is_wanted(repository: pathlib.Path) -> None:
    ids = "set: {\n ccd: 10\n}"
    text = by_butler(repository, named("i", "postISR", ids, "timeout: 20"), more="collections: late")
    writes = by_butler(repository, named("i", "postISR", ids), "output", more="run: late")
    with registry.open_repository(repository_config.load(repository), writeable=True) as opened:
        opened.collections.register_run("late")
    writer = threading.Timer(0.3, write, [writes], {"i": {"a": 1}})
    writer.start()
    assert read(text).get("i") == {"a": 1}
    writer.join()
    absent = by_butler(repository, named("i", "postISR", "set: {\n ccd: 11\n}", "timeout: 0.6"))
    assert "there is no postISR with {'ccd': 11} for 0.6 s" in refused(read, absent)


def test_a_butler_writes_datasets_and_nothing_else(repository: pathlib.Path, tmp_path: pathlib.Path) -> None:
    ids = 'datasetType: postISR\n fromJobIdentity: "ccd"'
    place = f"storagePolicy: {{\n {ITEM}\n}}"
    item = f"i: {{\n datasetId: {{\n {ids}\n}}\n {place}\n}}\n j: {{\n {place}\n}}\n"
    text = by_butler(repository, item, "output", more="run: out")
    clipboard = write(text, i={"a": 1}, j={"b": 2}, jobIdentity={"ccd": 11})
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a-j"]
    assert clipboard.get("outputDatasets") == [dataset("postISR", ccd=11)]
    back = by_butler(repository, named("i", "postISR", "set: {\n ccd: 11\n}"), more="collections: out")
    assert read(back).get("i") == {"a": 1}
    message = refused(write, text, i={"a": 2}, j={"b": 2}, jobIdentity={"ccd": 11})
    assert "in run out already, and is not replaced" in message
    assert read(back).get("i") == {"a": 1}


@pytest.mark.ordering("S2")
def test_files_of_others_are_left_alone(repository: pathlib.Path) -> None:
    ids = 'datasetType: postISR\n fromJobIdentity: "ccd"'
    text = by_butler(repository, f"i: {{\n datasetId: {{\n {ids}\n}}\n}}\n", "output", more="run: mine")
    write(text, i={"a": 1}, jobIdentity={"ccd": 11})
    (written,) = (path for path in repository.rglob("*") if path.is_file() and "mine" in path.parts)
    content = written.read_bytes()
    other = written.with_name(written.name.replace("11", "10"))
    assert other != written
    # A file is there, as after a writer that was killed before it wrote the rows: another one is kept ...
    other.write_bytes(b"other")
    assert "another process has written it" in refused(write, text, i={"a": 1}, jobIdentity={"ccd": 10})
    assert other.read_bytes() == b"other"
    # ... and the same is taken.
    other.write_bytes(content)
    write(text, i={"a": 1}, jobIdentity={"ccd": 10})
    back = by_butler(repository, named("i", "postISR", "set: {\n ccd: 10\n}"), more="collections: mine")
    assert read(back).get("i") == {"a": 1}
    other.unlink()
    assert "is recorded, but its file is not there" in refused(read, back)


@pytest.mark.parametrize(
    ("ids", "kind", "more", "message"),
    [
        ("ccd: 11\n amp: 1", "bias", "", "amp is no dimension of"),
        ("ccd: eleven", "bias", "", "detector has to be an int, and is 'eleven'."),
        ("ccd: true", "bias", "", "detector has to be an int, and is True."),
        ("visit: 1", "raw", "", "raw needs detector to be found; given are instrument='Sim', visit=1."),
        ("ccd: 11", "nothing", "", "dataset type 'nothing' is not registered"),
        ("ccd: 11", "bias", "collections: nowhere", "nowhere"),
        ("ccd: 11", "bias", "mapperName: nowhere.Mapper", "nowhere.Mapper: can't be imported"),
        (
            "ccd: 11",
            "bias",
            "mapperName: builtins.int",
            "butler.mapperName builtins.int: can't be made (TypeError",
        ),
        ("ccd: 11", "bias", "mapperPolicy: {\n root: %(x)\n}", "Unknown substitution: x."),
    ],
)
def test_what_a_butler_can_not_find_is_refused(
    repository: pathlib.Path, ids: str, kind: str, more: str, message: str
) -> None:
    text = by_butler(repository, named("i", kind, f"set: {{\n {ids}\n}}"), more=more)
    assert message in refused(read, text)


def test_a_butler_without_repository_or_run_is_refused(repository: pathlib.Path) -> None:
    text = "parameters: {\n butler: {\n}\ninputItems: {\n" + named("i", "bias", "set: {\n ccd: 1\n}") + "}\n}"
    assert "a.paf:2: parameters.butler.repository: is missing." in refused(read, text)
    ids = "datasetType: bias\n set: {\n ccd: 11\n}"
    text = by_butler(repository, f"i: {{\n datasetId: {{\n {ids}\n}}\n}}\n", "output")
    assert "parameters.butler.run: is missing." in refused(write, text, i={"a": 1})


def test_errors_of_a_mapper_are_explained(repository: pathlib.Path) -> None:
    mapper = "mapperName: tests.system.test_stages.SensorMapper\n mapperPolicy: {\n root: %(input)\n}"
    message = refused(read, by_butler(repository, named("i", "bias", "set: {\n ccd: 11\n}"), more=mapper))
    assert (
        message
        == "a.paf:2: mapper tests.system.test_stages.SensorMapper has failed with bias (KeyError: 'sensor')."
    )


def test_of_two_writers_of_a_dataset_one_wins(repository: pathlib.Path) -> None:
    for number in range(4):
        settings = (
            f"repository: {repository}\nrun: race{number}\ncollections: race{number}\ninstrument: {CAMERA}"
        )
        with registry.open_repository(repository_config.load(repository), writeable=True) as opened:
            opened.collections.register_run(f"race{number}")
        barrier = threading.Barrier(2)
        won: list[str] = []
        lost: list[str] = []

        def put(
            name: str, settings: str, barrier: threading.Barrier, won: list[str], lost: list[str]
        ) -> None:
            butler = repository_butler.RepositoryButler(parsed(settings))
            barrier.wait()
            try:
                butler.put({"by": name}, "postISR", {"ccd": 11})
                won.append(name)
            except errors.AggregatorError as exc:
                lost.append(str(exc))
            butler.close()

        writers = [
            threading.Thread(target=put, args=[name, settings, barrier, won, lost]) for name in ("a", "b")
        ]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert (len(won), len(lost)) == (1, 1)
        assert "written it in the meantime" in lost[0] or "not replaced" in lost[0]
        butler = repository_butler.RepositoryButler(parsed(settings))
        assert butler.get("postISR", {"ccd": 11}) == {"by": won[0]}
        butler.close()


def test_stages_run_in_slices(tmp_path: pathlib.Path) -> None:
    """Each slice writes an item of the master, and reads its own."""
    place = "storage: XmlStorage\n location: %(output)/%02d(sliceId)"
    stages = [
        io_stages.output_stage(parsed(one(place, kind="output"))),
        io_stages.input_stage(parsed(one(place))),
        io_stages.output_stage(parsed(one(place.replace("(output)", "(output)/again"), kind="output"))),
    ]
    inputs = clipboards.Queue()
    clipboard = clipboards.Clipboard()
    clipboard.put("i", [1], shared=True)
    inputs.add(clipboard)
    slices.run(stages, inputs, clipboards.Queue(), n_slices=2)
    assert sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("0*")) == [
        "00",
        "01",
        "again/00",
        "again/01",
    ]


def test_runs_that_nothing_can_be_written_into(repository: pathlib.Path) -> None:
    ids = 'datasetType: postISR\n fromJobIdentity: "ccd"'
    items = f"i: {{\n datasetId: {{\n {ids}\n}}\n}}\n"
    with registry.open_repository(repository_config.load(repository), writeable=True) as opened:
        opened.collections.register_chain("chain")
        opened.collections.register_run("closed")
        kind = opened.dataset_types.register("run_provenance", "ProvenanceQuantumGraph", [])
        opened.datasets.ingest("closed", batch.Batch([(new_ids.new(), kind, ())], []))
    for run, message in (
        ("chain", "chain is a CHAINED collection"),
        ("closed", "closed has its provenance graph"),
    ):
        text = by_butler(repository, items, "output", more=f"run: {run}")
        assert message in refused(write, text, i={"a": 1}, jobIdentity={"ccd": 11})
        assert not (repository / run).exists()


def test_a_refused_object_changes_nothing(repository: pathlib.Path) -> None:
    """Exit code 2: not even the run is there."""
    ids = 'datasetType: postISR\n fromJobIdentity: "ccd"'
    text = by_butler(repository, f"i: {{\n datasetId: {{\n {ids}\n}}\n}}\n", "output", more="run: new")
    with pytest.raises(errors.RefusedError, match="can't be written"):
        write(text, i=object(), jobIdentity={"ccd": 11})
    with registry.open_repository(repository_config.load(repository), writeable=False) as opened:
        assert opened.collections.find("new") is None
    assert not (repository / "new").exists()
