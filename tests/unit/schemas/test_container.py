import pathlib
import struct
import zipfile

import pytest
from aggregator.schemas.graphs import container, predicted, provenance_graph
from aggregator.storage import errors

from tests.helpers import graph_files


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return graph_files.unpack_sample(tmp_path_factory.mktemp("sample"))


@pytest.fixture(scope="module")
def graph(root: pathlib.Path) -> pathlib.Path:
    return root / "repo" / "predicted.qg"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_are_read_in_whole_and_in_part(
    graph: pathlib.Path, tmp_path: pathlib.Path, method: int
) -> None:
    members = graph_files.members(graph)
    path = graph_files.pack(tmp_path / "copy.qg", members, method)
    with container.Container(str(path)) as opened:
        for name, data in members.items():
            assert name in opened
            assert opened.size(name) == len(data)
            assert opened.read(name) == data
            assert opened.read(name, 3, 5) == data[3:8]
            assert opened.read(name, len(data) - 1) == data[-1:]
            assert opened.read(name, len(data), 0) == b""


@pytest.mark.parametrize(("offset", "size"), [(0, 11), (10, 1), (11, 0), (-1, 1), (5, -1), (1 << 62, 1)])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_range_outside_of_a_member_is_refused(
    tmp_path: pathlib.Path, offset: int, size: int, method: int
) -> None:
    path = graph_files.pack(tmp_path / "graph.qg", {"quanta.mb": b"0123456789", "next": b"x" * 20}, method)
    with (
        container.Container(str(path)) as opened,
        pytest.raises(errors.FormatError, match="has 10 bytes") as caught,
    ):
        opened.read("quanta.mb", offset, size)
    assert (caught.value.path, caught.value.member) == (str(path), "quanta.mb")


def test_a_local_header_can_be_longer_than_its_entry_in_the_directory(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "graph.qg"
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("first.mb", "w", force_zip64=True) as stream:
            stream.write(b"abc")
        archive.writestr("second.mb", b"def")
    with container.Container(str(path)) as opened:
        assert (opened.read("first.mb"), opened.read("second.mb")) == (b"abc", b"def")


def test_members_beyond_4_gib_are_read(tmp_path: pathlib.Path) -> None:
    path, size = tmp_path / "graph.qg", (5 << 30) + 7
    name, last = b"logs.mb", b"the end"
    sizes = struct.pack("<HHQQ", 1, 16, size, size)
    header = struct.pack(
        "<4s5H3L2H", b"PK\3\4", 45, 0, 0, 0, 33, 0, 2**32 - 1, 2**32 - 1, len(name), len(sizes)
    )
    with path.open("wb") as stream:
        stream.write(header + name + sizes)
        begin = stream.tell()
        # Sparse: the file takes no room on disk.
        stream.seek(begin + size - len(last))
        stream.write(last)
        second = stream.tell()
        stream.write(struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 33, 0, 3, 3, 8, 0) + b"nextnextabc")
        directory = stream.tell()
        offset = struct.pack("<HHQ", 1, 8, second)
        entry = struct.pack(
            "<4s6H3L5H2L", b"PK\1\2", 45, 45, 0, 0, 0, 33, 0, 2**32 - 1, 2**32 - 1, 7, 20, 0, 0, 0, 0, 0
        )
        stream.write(entry + name + sizes)
        entry = struct.pack(
            "<4s6H3L5H2L", b"PK\1\2", 45, 45, 0, 0, 0, 33, 0, 3, 3, 8, 12, 0, 0, 0, 0, 2**32 - 1
        )
        stream.write(entry + b"nextnext" + offset)
        end = stream.tell()
        stream.write(struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 2, 2, end - directory, directory))
        stream.write(struct.pack("<4sLQL", b"PK\6\7", 0, end, 1))
        stream.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, end - directory, 2**32 - 1, 0))
    with container.Container(str(path)) as opened:
        assert opened.size("logs.mb") == size
        assert opened.read("logs.mb", size - len(last)) == last
        assert opened.read("nextnext") == b"abc"


def test_a_missing_member_is_named(graph: pathlib.Path, tmp_path: pathlib.Path) -> None:
    members = graph_files.members(graph)
    path = graph_files.pack(tmp_path / "graph.qg", {**members, "pipeline_graph.json.zst": None})
    with pytest.raises(errors.FormatError, match="missing") as caught:
        predicted.PredictedGraph(str(path))
    assert caught.value.member == "pipeline_graph.json.zst"
    assert str(path) in str(caught.value)


def test_a_truncated_file_is_refused(graph: pathlib.Path, tmp_path: pathlib.Path) -> None:
    data, path = graph.read_bytes(), tmp_path / "graph.qg"
    for size in [0, 1, 100, len(data) // 2, len(data) - 100, len(data) - 1]:
        path.write_bytes(data[:size])
        with pytest.raises(errors.RefusedError, match="truncated"):
            predicted.PredictedGraph(str(path))


def test_what_is_no_graph_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.RefusedError, match=r"No such file"):
        predicted.PredictedGraph(str(tmp_path / "absent.qg"))
    for name, problem in [
        ("text.qg", "not a quantum graph file"),
        ("text.qgraph", "extension"),
        ("text", "extension"),
    ]:
        (tmp_path / name).write_text("not a zip archive")
        with pytest.raises(errors.RefusedError, match=problem):
            predicted.PredictedGraph(str(tmp_path / name))
    with pytest.raises(errors.RefusedError, match="local"):
        predicted.PredictedGraph("ftp://host/graph.qg")
    (tmp_path / "directory.qg").mkdir()
    with pytest.raises(errors.RefusedError, match=r"directory\.qg"):
        predicted.PredictedGraph(str(tmp_path / "directory.qg"))


def test_a_file_uri_is_a_path(graph: pathlib.Path, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a graph #1.qg"
    path.write_bytes(graph.read_bytes())
    assert " " not in path.as_uri()
    for uri in (str(path), path.as_uri()):
        with predicted.PredictedGraph(uri) as opened:
            assert opened.path == str(path)


def test_the_other_kind_of_graph_is_refused(root: pathlib.Path, graph: pathlib.Path) -> None:
    with pytest.raises(errors.RefusedError, match=r"a predicted graph is needed.*'provenance'"):
        predicted.PredictedGraph(str(root / "provenance.qg"))
    with pytest.raises(errors.RefusedError, match=r"a provenance graph is needed.*'predicted'"):
        provenance_graph.ProvenanceGraph(str(graph))


@pytest.mark.parametrize(
    ("change", "kind", "problem"),
    [
        ({"version": 2}, errors.RefusedError, "version 2 is newer"),
        ({"graph_type": ""}, errors.RefusedError, "''"),
        ({"int_size": 0}, errors.FormatError, "int_size 0"),
        ({"int_size": 9}, errors.FormatError, "int_size 9"),
        ({"n_quanta": "many"}, errors.FormatError, "n_quanta"),
    ],
)
def test_a_header_that_is_not_known_is_refused(
    graph: pathlib.Path,
    tmp_path: pathlib.Path,
    change: dict[str, object],
    kind: type[Exception],
    problem: str,
) -> None:
    members = graph_files.members(graph)
    header = {**graph_files.single(members, "header"), **change}
    path = graph_files.pack(
        tmp_path / "graph.qg", {**members, "header.json.zst": graph_files.compress(header)}
    )
    with pytest.raises(kind, match=problem):
        predicted.PredictedGraph(str(path))


@pytest.mark.parametrize("name", ["repo/predicted_dict.qg", "provenance_dict.qg"])
def test_a_wrong_dictionary_is_an_error_of_the_file(
    root: pathlib.Path, tmp_path: pathlib.Path, name: str
) -> None:
    members = graph_files.members(root / name)
    assert members["compression_dict"]
    opens = predicted.PredictedGraph if "predicted" in name else provenance_graph.ProvenanceGraph
    for wrong in (None, b"", members["compression_dict"][:300], b"x" * 300):
        path = graph_files.pack(tmp_path / "graph.qg", {**members, "compression_dict": wrong})
        with pytest.raises(errors.FormatError) as caught:
            opens(str(path))
        assert caught.value.member in ("header.json.zst", "compression_dict")
