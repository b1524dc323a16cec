"""Bundles: batches can be written anywhere, and files are where their records say."""

import msgspec
import pytest
from aggregator.schemas import bundle

_HEAD = bundle.Head("source", {}, (bundle.Datastore("d", "/root", {}), bundle.Datastore("s", "s3://b/r", {})))

_BATCHES: list[bundle.Batch] = [
    bundle.DatasetTypes([bundle.DatasetType("flat", "ExposureF", ("instrument", "detector"), True)]),
    bundle.Collections([bundle.Collection("u/run", "RUN", None)]),
    bundle.DimensionRecords("detector", ("instrument", "id"), [("Cam", 1)], [("htm", 7, "Cam", 1, 77)]),
    bundle.Graph("provenance", "u/run", "/root/g.qg", "d", "g.qg", "0" * 32),
    bundle.Datasets(
        "u/run",
        [bundle.Dataset("1" * 32, "flat", ("Cam", 1), 5)],
        [bundle.FileRecord("1" * 32, "d", "a", "F", "ExposureF", None, None, -1)],
    ),
    bundle.Associations("calib", [bundle.Association("1" * 32, "flat", ("Cam", 1), (0, 7))]),
    bundle.Chain("all", ("u/run", "calib")),
]


@pytest.mark.parametrize("batch", _BATCHES)
def test_batches_can_be_encoded_and_decoded(batch: bundle.Batch) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(batch), type=bundle.Batch) == batch


@pytest.mark.parametrize(
    ("datastore", "path", "location"),
    [
        ("d", "a/b#1.fits", "/root/a/b#1.fits"),
        ("d", "zips/z.zip#zip-path=m.json", "/root/zips/z.zip"),
        ("d", "/else where/x", "/else where/x"),
        ("d", "file:///else%20where/x", "/else where/x"),
        ("s", "a b/c", "s3://b/r/a%20b/c"),
        ("s", "s3://other/x", "s3://other/x"),
    ],
)
def test_files_are_where_their_records_say(datastore: str, path: str, location: str) -> None:
    record = bundle.FileRecord("1" * 32, datastore, path, "F", "S", None, None, -1)
    assert bundle.location(_HEAD, record) == location
