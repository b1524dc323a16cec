"""Predicted files and records of datasets are those of the reference."""

import json
import pathlib
from typing import Any

import pytest

from tests.unit.butler import test_datastore

_CHAIN = "lsst.daf.butler.datastores.chainedDatastore.ChainedDatastore"
_MEMORY = "lsst.daf.butler.datastores.inMemoryDatastore.InMemoryDatastore"
_YAML = "lsst.daf.butler.formatters.yaml.YamlFormatter"
_VALUES = {
    "instrument": "HSC",
    "visit": 12,
    "detector": 3,
    "exposure": 13,
    "group": "g#1/x",
    "band": "r",
    "physical_filter": "HSC R/2.5",
    "day_obs": 20260301,
    "skymap": "sky map",
    "tract": 4,
    "patch": 5,
    "htm7": 131200,
    "healpix3": 17,
    "subfilter": 2,
    "detector.full_name": "R0/S1.x",
    "exposure.obs_id": "MC_O_1",
    "visit.name": "v.12",
}


_DATASETS = [
    ("raw", "StructuredDataDict", ["physical_filter", "detector", "exposure"]),
    ("calexp", "StructuredDataDict", ["visit", "detector"]),
    ("icExp", "StructuredDataDict", ["detector", "visit"]),
    ("table", "ArrowAstropy", ["visit"]),
    ("visitInt", "int", ["visit"]),
    ("coadd", "_mock_ExposureF", ["patch", "band"]),
    ("_mock_coadd_x", "_mock_MaskedImage", ["patch", "subfilter"]),
    ("_mock_flat", "MetricMeasurementBundle", ["detector"]),
    ("reference", "SkyMap", ["htm7"]),
    ("hips", "Plot", ["healpix3", "band"]),
    ("both", "NumpyArray", ["healpix3", "htm7"]),
    ("task_log", "ButlerLogRecords", ["exposure", "detector"]),
    ("task_metadata", "TaskMetadata", ["group", "detector"]),
    ("task_config", "Config", []),
    ("packages", "Packages", []),
    ("pair", "OraclePair", ["visit", "detector"]),
    ("heir", "OracleHeir", ["tract"]),
]


_STORAGE_CLASSES = {
    "OraclePair": {"pytype": "dict", "components": {"left": "StructuredDataDict", "right": "NumpyArray"}},
    "OracleHeir": {"inheritsFrom": "OraclePair", "components": {"right": "Plot", "third": "int"}},
}


_COMPONENT = "{run:/}/{datasetType}-{component:?}/{visit:?}{detector:?}{instrument:?}{tract:?}{skymap:?}"


_SECTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "templates": {
        "templates": {
            "table": "{run:/}/t/{visit.name}/{instrument}{visit:08d}{band!r}",
            "tract+subfilter+patch+band": "{run:/}/by_dim/{tract}{patch}{skymap}{subfilter}{band}.{id}",
            "patch+band": "{run:/}/co/{tract}{patch}{skymap}{band}",
            "visit+": "{run:/}/single/{visit}{instrument}",
            "unknown_dimension+visit": "{run:/}/never/{visit}{instrument}",
            "MetricMeasurementBundle": "{run:/}/mocks/{instrument}/{detector.full_name}{detector}",
            "instrument<HSC>": {
                "icExp": "{run:/}/hsc/{visit}/{detector}{instrument}",
                "detector+visit": "{run:/}/hscdims/{visit}/{detector}{instrument}",
                "Plot": "{run:/}/notaninstrument/{skypix}{band}",
                "default": "{run:/}/unused/{instrument}",
            },
            "instrument<Other>": {"calexp": "{run:/}/other/{visit}/{detector}{instrument}"},
            "visit<12>": {"calexp": "{run:/}/visits/{visit}/{detector}{instrument}"},
        }
    },
    "formatters": {
        "formatters": {
            "StructuredDataDict": test_datastore._JSON,
            "icExp": {"formatter": _YAML, "parameters": {"unsafe_dump": True}},
            "visit+": _YAML,
            "instrument<HSC>": {"calexp": _YAML, "NumpyArray": test_datastore._JSON, "_mock_flat": _YAML},
            "instrument<Other>": {"StructuredDataDict": "no.such.Formatter"},
            "default": {"lsst.daf.butler.formatters.packages.PackagesFormatter": {"format": "json"}},
            "Packages": {
                "formatter": "lsst.daf.butler.formatters.packages.PackagesFormatter",
                "parameters": {},
            },
        }
    },
    "constraints": {
        "constraints": {
            "accept": ["visit+detector", "all", {"instrument<HSC>": ["SkyMap", "table"]}],
            "reject": ["StructuredDataDict", {"instrument<HSC>": ["table", "visitInt"]}, "Packages"],
        }
    },
    "accept only": {"constraints": {"accept": ["calexp", "exposure+detector", {"instrument<HSC>": ["all"]}]}},
    "reject all": {"constraints": {"accept": ["int", "pair"], "reject": ["all"]}},
    "composites": {
        "templates": {"pair": _COMPONENT, "heir.right": _COMPONENT.replace("-", "-right-")},
        "composites": {"default": True, "disassembled": {"_mock_ExposureF": False}},
        "formatters": {"pair.left": _YAML, "OracleHeir": test_datastore._JSON},
    },
    "composites by dimensions": {
        "composites": {"disassembled": {"visit+detector": True, "tract+": True, "OracleHeir": False}},
    },
    "composites by storage class": {
        "templates": {
            "OraclePair": _COMPONENT,
            "int": _COMPONENT + "_int",
            "OracleHeir": _COMPONENT + "_heir",
        },
        "composites": {"disassembled": {"OraclePair": True, "OracleHeir": True, "patch+subfilter": True}},
    },
    "name": {
        "name": "store of mine",
        "records": {"table": "other_records"},
        "root": "<butlerRoot>/some/where/",
    },
    "chain": {
        "cls": _CHAIN,
        "constraints": {"reject": ["ButlerLogRecords"]},
        "datastores": [
            {"cls": _MEMORY, "constraints": {"accept": ["all"]}},
            {
                "cls": test_datastore._FILE,
                "root": "<butlerRoot>/FileDatastore_1",
                "records": {"table": "recs_a"},
                "templates": {
                    "default": "{run:/}/a/" + "".join("{" + key + ":?}" for key in _VALUES) + "_{id}"
                },
            },
            {
                "datastore": {
                    "root": "<butlerRoot>/FileDatastore_2",
                    "records": {"table": "recs_b"},
                    "constraints": {"reject": ["calexp", "all"], "accept": ["visit+detector", "Packages"]},
                }
            },
            {
                "cls": _CHAIN,
                "constraints": {"accept": ["visit+detector", "int", "Config"]},
                "datastores": [
                    {
                        "cls": test_datastore._FILE,
                        "root": "<butlerRoot>/inner",
                        "name": "inner",
                        "constraints": {"reject": ["icExp"]},
                        "composites": {"default": True},
                    }
                ],
            },
        ],
    },
}


def _references(data: Any) -> list[Any]:
    from tests.helpers import butler_reference

    return [
        butler_reference.dataset_ref(name, storage_class, data.coordinate(dimensions, _VALUES))
        for name, storage_class, dimensions in _DATASETS
    ]


@pytest.fixture(scope="module")
def world() -> Any:
    daf = pytest.importorskip("lsst.daf.butler")
    from tests.helpers import butler_reference

    daf.StorageClassFactory().addFromConfig(daf.StorageClassConfig({"storageClasses": _STORAGE_CLASSES}))
    return butler_reference.Data(daf.DimensionUniverse())


@pytest.mark.parametrize("name", _SECTIONS)
def test_records_are_the_references(name: str, tmp_path: pathlib.Path, world: Any) -> None:
    from tests.helpers import butler_reference

    repo = test_datastore._repository(tmp_path / "repo", _SECTIONS[name], storageClasses=_STORAGE_CLASSES)
    refs = _references(world)
    expected = butler_reference.predict(repo, refs)
    assert any(expected.values())
    assert butler_reference.ours(repo, refs, world) == expected


def test_directories_of_defaults_are_merged_as_by_the_reference(
    tmp_path: pathlib.Path, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.helpers import butler_reference

    first, second = tmp_path / "first", tmp_path / "second"
    files = {
        first / "datastores/fileDatastore.yaml": "datastore: {formatters: !include mine.yaml, name: first}\n",
        first / "datastores/mine.yaml": f"int: {_YAML}\n",
        first / "datastores/formatters.yaml": f"SkyMap: {_YAML}  # included by nothing\n",
        second / "datastores/fileDatastore.yaml": json.dumps(
            {
                "formatters": {
                    "int": test_datastore._JSON,
                    "calexp": test_datastore._JSON,
                    "icExp": test_datastore._JSON,
                },
                "templates": {"table": "{run:/}/second/{visit}{instrument}"},
                "records": {"table": "second_records"},
                "name": "second",
            }
        ),
        second
        / "datastores/composites.yaml": "composites: {default: true, disassembled: {OraclePair: true}}\n",
        second / "datastore.yaml": "datastore: {datastore: {constraints: {reject: [Packages]}}}\n",
        second / "storageClasses.yaml": "storageClasses: {OracleSecond: {pytype: dict}}\n",
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    section = {"formatters": {"calexp": _YAML}, "templates": {"visitInt": "{run:/}/v{visit}{instrument}"}}
    repo = test_datastore._repository(tmp_path / "repo", section, storageClasses=_STORAGE_CLASSES)
    refs = _references(world)
    for search_path in ([first, second], [second, first], [tmp_path / "nowhere", second]):
        monkeypatch.setenv("DAF_BUTLER_CONFIG_PATH", ":".join(map(str, search_path)))
        expected = butler_reference.predict(repo, refs)
        assert butler_reference.ours(repo, refs, world) == expected
        table = ("first" if search_path[0] == first else "second", "file_datastore_records")
        assert set(expected["calexp"] or {}) == {table}


@pytest.mark.parametrize(("section", "standalone"), [({}, True), (_SECTIONS["chain"], False)])
def test_repository_made_by_the_reference(
    section: dict[str, Any], standalone: bool, tmp_path: pathlib.Path, world: Any
) -> None:
    import lsst.daf.butler as daf

    from tests.helpers import butler_reference

    seed = daf.Config({"datastore": section, "storageClasses": _STORAGE_CLASSES})
    daf.Butler.makeRepo(str(tmp_path / "repo"), config=seed, standalone=standalone)
    refs = _references(world)
    expected = butler_reference.predict(tmp_path / "repo", refs)
    assert any(expected.values())
    assert butler_reference.ours(tmp_path / "repo", refs, world) == expected
