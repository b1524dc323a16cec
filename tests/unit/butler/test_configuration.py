"""Configuration of repositories: where it is found, what it is merged from, what is refused."""

import json
import pathlib
from typing import Any

import pytest
import yaml
from aggregator.butler.configuration import repository_config
from aggregator.storage import errors

_FILE = "lsst.daf.butler.datastores.fileDatastore.FileDatastore"
_CHAIN = "lsst.daf.butler.datastores.chainedDatastore.ChainedDatastore"
_MEMORY = "lsst.daf.butler.datastores.inMemoryDatastore.InMemoryDatastore"
_ENVIRONMENT = ("DAF_BUTLER_CONFIG_PATH", "DAF_BUTLER_REPOSITORY_INDEX", "DAF_BUTLER_REPOSITORIES")


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)


def _write(directory: pathlib.Path, content: Any = None, name: str = "butler.yaml") -> pathlib.Path:
    directory.mkdir(exist_ok=True, parents=True)
    if content is None:
        content = {
            "datastore": {"root": "<butlerRoot>"},
            "registry": {"db": "sqlite:///<butlerRoot>/gen3.sqlite3"},
        }
    text = content if isinstance(content, str) else yaml.safe_dump(content)
    (directory / name).write_text(text)
    return directory


def test_directory_file_and_uri_lead_to_the_same(tmp_path: pathlib.Path) -> None:
    repo = _write(tmp_path / "a repo")
    loaded = repository_config.load(repo)
    assert loaded == repository_config.load(repo / "butler.yaml")
    assert loaded == repository_config.load(f"file://{tmp_path}/a%20repo")
    assert loaded.root == str(repo)
    assert loaded.path == f"{repo}/butler.yaml"
    assert loaded.database == f"sqlite:///{repo}/gen3.sqlite3"
    assert loaded.namespace is None
    (store,) = loaded.datastores
    assert (store.name, store.root) == ("FileDatastore@<butlerRoot>", str(repo))
    assert store.records_table == "file_datastore_records"


@pytest.mark.parametrize("name", ["$HOME", "~", "${USER}x"])
def test_what_a_directory_is_called_is_not_expanded(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Another repository would be written to."""
    monkeypatch.setenv("PART", "datasets")
    content = {"datastore": {"root": "<butlerRoot>/$PART"}, "registry": {"db": "sqlite:///<butlerRoot>/a.db"}}
    repo = _write(tmp_path / name / "repo", content)
    monkeypatch.chdir(tmp_path)
    for location in (repo, f"{name}/repo", repo / "butler.yaml"):
        loaded = repository_config.load(location)
        assert (loaded.root, loaded.datastores[0].root) == (str(repo), f"{repo}/datasets")
    monkeypatch.setenv("WHERE", f"{tmp_path}/elsewhere")
    elsewhere = _write(tmp_path / "elsewhere")
    assert repository_config.load("$WHERE").root == str(elsewhere)


def test_relative_path_is_resolved(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repo = _write(tmp_path / "repo")
    monkeypatch.chdir(tmp_path)
    assert repository_config.load("repo") == repository_config.load(repo)


@pytest.mark.parametrize("how", ["file", "text"])
def test_alias(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    repo = _write(tmp_path / "repo")
    index = {"main": str(repo), "cloud": "ftp://host/repo"}
    if how == "file":
        _write(tmp_path, index, "index.yaml")
        monkeypatch.setenv("DAF_BUTLER_REPOSITORY_INDEX", f"{tmp_path}/index.yaml")
    else:
        monkeypatch.setenv("DAF_BUTLER_REPOSITORIES", json.dumps(index))
    assert repository_config.load("main").root == str(repo)
    with pytest.raises(errors.RefusedError, match=r"ftp://host/repo is a ftp:// location"):
        repository_config.load("cloud")
    with pytest.raises(errors.RefusedError, match=r"\['cloud', 'main'\]"):
        repository_config.load("mian")


def test_alias_goes_before_a_path(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path / "main")
    other = _write(tmp_path / "other")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAF_BUTLER_REPOSITORIES", f"main: {other}")
    assert repository_config.load("main").root == str(other)


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "a: 1"])
def test_broken_index_does_not_matter_to_a_path(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("DAF_BUTLER_REPOSITORIES", text)
    assert repository_config.load(_write(tmp_path / "repo")).root == str(tmp_path / "repo")
    with pytest.raises(errors.RefusedError, match="there is no repository index: "):
        repository_config.load("main")


def test_two_indexes_are_none(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAF_BUTLER_REPOSITORIES", f"main: {tmp_path}")
    monkeypatch.setenv("DAF_BUTLER_REPOSITORY_INDEX", f"{tmp_path}/index.yaml")
    with pytest.raises(errors.RefusedError, match="both"):
        repository_config.load("main")


def test_missing_repository(tmp_path: pathlib.Path) -> None:
    with pytest.raises(
        errors.RefusedError, match=r"nothing: there is no Butler repository.*no repository index"
    ):
        repository_config.load(tmp_path / "nothing")
    with pytest.raises(errors.RefusedError, match=r"butler\.yaml: there is no Butler repository"):
        repository_config.load(tmp_path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("datastore: [", "malformed"),
        ("- a\n- b\n", "mapping at the top"),
        ("registry: {db: 'sqlite://'}", "no section 'datastore'"),
        ("", "no section 'datastore'"),
        ({"datastore": {"cls": "my.Datastore"}}, "'my.Datastore' is not supported"),
        ({"datastore": {"root": "ftp://host/x"}}, "ftp://host/x is a ftp:// location"),
        ({"datastore": {"root": 5}}, "'datastore: root'"),
        ({"datastore": {"templates": "mine.yaml"}}, "'datastore: templates' has to be a mapping"),
        ({"datastore": {}, "registry": {"db": 3}}, "'registry: db' is 3"),
        ({"datastore": {}, "registry": {"db": "nonsense"}}, "not a database URL"),
        ({"datastore": {}, "cls": "lsst.daf.butler.remote_butler.RemoteButler"}, "RemoteButler"),
        ({"datastore": {"cls": _CHAIN, "datastores": [{"root": "a"}, {"root": "a"}]}}, "equal names"),
        (
            {"datastore": {}, "storageClasses": {"A": {"inheritsFrom": "B"}, "B": {"inheritsFrom": "A"}}},
            "each other",
        ),
        ("datastore: {templates: !include missing.yaml}", "missing.yaml"),
        ("includeConfigs: missing.yaml\n", "missing.yaml"),
    ],
)
def test_refused_configurations(tmp_path: pathlib.Path, content: Any, problem: str) -> None:
    with pytest.raises(errors.RefusedError, match=problem) as caught:
        repository_config.load(_write(tmp_path / "repo", content))
    assert str(tmp_path) in str(caught.value) or problem == "each other"


def test_file_with_another_extension_is_refused(tmp_path: pathlib.Path) -> None:
    _write(tmp_path, name="butler.txt")
    with pytest.raises(errors.RefusedError, match=r"\*\.yaml or \*\.json"):
        repository_config.load(tmp_path / "butler.txt")


def test_json_configuration(tmp_path: pathlib.Path) -> None:
    _write(tmp_path, json.dumps({"datastore": {"root": "<butlerRoot>/d"}}), "butler.json")
    assert repository_config.load(tmp_path / "butler.json").datastores[0].root == f"{tmp_path}/d"


def test_root_key_takes_the_place_of_the_directory(tmp_path: pathlib.Path) -> None:
    repo = _write(
        tmp_path / "repo", {"root": f"{tmp_path}/elsewhere", "datastore": {"root": "<butlerRoot>/d"}}
    )
    loaded = repository_config.load(repo)
    assert loaded.root == f"{tmp_path}/elsewhere"
    assert loaded.datastores[0].root == f"{tmp_path}/elsewhere/d"
    assert loaded.database == f"sqlite:///{tmp_path}/elsewhere/gen3.sqlite3"


def test_file_uri_as_datastore_root(tmp_path: pathlib.Path) -> None:
    root = f"file://{tmp_path}/some%20data/"
    (store,) = repository_config.load(_write(tmp_path / "repo", {"datastore": {"root": root}})).datastores
    assert (store.name, store.root) == (f"FileDatastore@{root}", f"{tmp_path}/some data")


def test_registry_section(tmp_path: pathlib.Path) -> None:
    registry = {
        "db": "postgresql://server/base",
        "namespace": "ns1",
        "username": "me",
        "password": "p@",
        "port": 99,
    }
    loaded = repository_config.load(_write(tmp_path / "repo", {"datastore": {}, "registry": registry}))
    assert loaded.database == "postgresql://me:p%40@server:99/base"
    assert loaded.namespace == "ns1"


def test_chain_is_flattened(tmp_path: pathlib.Path) -> None:
    accept, reject = {"accept": ["a"]}, {"reject": ["b"]}
    chain = {
        "cls": _CHAIN,
        "constraints": accept,
        "datastores": [
            {"cls": _MEMORY},
            {"cls": _FILE, "root": "<butlerRoot>/0", "records": {"table": "recs_0"}},
            {
                "cls": _CHAIN,
                "datastores": [{"root": "<butlerRoot>/1", "name": "mine", "constraints": reject}],
            },
        ],
    }
    stores = repository_config.load(_write(tmp_path / "repo", {"datastore": chain})).datastores
    assert [s.name for s in stores] == ["FileDatastore@<butlerRoot>/0", "mine"]
    assert [s.root for s in stores] == [f"{tmp_path}/repo/0", f"{tmp_path}/repo/1"]
    assert [s.records_table for s in stores] == ["recs_0", "file_datastore_records"]
    assert [s.constraints for s in stores] == [(accept,), (accept, reject)]


def test_search_path_lies_between_defaults_and_repository(tmp_path: pathlib.Path) -> None:
    for name, table in (("first", "t1"), ("second", "t2")):
        section = {"datastore": {"records": {"table": table}, "name": name, "root": "<butlerRoot>/" + name}}
        _write(tmp_path / name / "datastores", section, "fileDatastore.yaml")
    repo = _write(tmp_path / "repo", {"datastore": {"root": "<butlerRoot>"}})
    (store,) = repository_config.load(repo, [f"{tmp_path}/first", f"{tmp_path}/second"]).datastores
    assert (store.name, store.records_table, store.root) == ("first", "t1", str(repo))
    assert "default" in store.templates


def test_included_files(tmp_path: pathlib.Path) -> None:
    _write(tmp_path / "repo/parts", {"name": "included", "records": {"table": "included"}}, "one.yaml")
    _write(tmp_path / "repo/parts", {"records": {"table": "second"}}, "two.yaml")
    _write(tmp_path / "repo/parts", "thing: !include nested.yaml\n", "templates.yaml")
    _write(tmp_path / "repo/parts", "'{run}/{visit}'\n", "nested.yaml")
    text = (
        "datastore:\n  includeConfigs: [parts/one.yaml, parts/two.yaml]\n  root: <butlerRoot>\n"
        "  name: explicit\n  templates: !include parts/templates.yaml\n"
    )
    (store,) = repository_config.load(_write(tmp_path / "repo", text)).datastores
    assert (store.name, store.records_table) == ("explicit", "second")
    assert store.templates["thing"] == "{run}/{visit}"
    assert "default" in store.templates


def test_storage_classes_inherit_components(tmp_path: pathlib.Path) -> None:
    own = {"Mine": {"inheritsFrom": "MaskedImage", "components": {"mask": "MaskX", "extra": "int"}}}
    loaded = repository_config.load(_write(tmp_path / "repo", {"datastore": {}, "storageClasses": own}))
    assert list(loaded.storage_classes["Mine"].items()) == [
        ("image", "Image"),
        ("mask", "MaskX"),
        ("variance", "Image"),
        ("extra", "int"),
    ]
    assert loaded.storage_classes["MaskedImageF"] == loaded.storage_classes["MaskedImage"]
    assert loaded.storage_classes["StructuredDataDict"] == {}


def test_settings_do_not_depend_on_the_place(tmp_path: pathlib.Path) -> None:
    one, two = (
        repository_config.load(_write(tmp_path / "one")),
        repository_config.load(_write(tmp_path / "two")),
    )
    assert one.settings() == two.settings()
    assert str(tmp_path) not in json.dumps(one.settings())


@pytest.mark.parametrize(
    "section",
    [
        {"templates": {"a": "{run}/{visit}"}},
        {"formatters": {"a": "b.C"}},
        {"composites": {"default": True}},
        {"constraints": {"reject": ["a"]}},
        {"name": "x"},
        {"root": "<butlerRoot>/x"},
        {"records": {"table": "x"}},
    ],
)
def test_settings_depend_on_what_makes_paths_and_records(
    tmp_path: pathlib.Path, section: dict[str, Any]
) -> None:
    plain = repository_config.load(_write(tmp_path / "one", {"datastore": {"root": "<butlerRoot>"}}))
    other = repository_config.load(
        _write(tmp_path / "two", {"datastore": {"root": "<butlerRoot>", **section}})
    )
    assert json.dumps(plain.settings()) != json.dumps(other.settings())


def test_settings_depend_on_components_and_the_order_of_entries(tmp_path: pathlib.Path) -> None:
    def settings(name: str, components: dict[str, str], templates: dict[str, str]) -> str:
        own = {"Mine": {"components": components}}
        content = json.dumps({"datastore": {"templates": templates}, "storageClasses": own})
        return json.dumps(repository_config.load(_write(tmp_path / name, content)).settings())

    ab, ba = {"a+b": "x", "b+a": "y"}, {"b+a": "y", "a+b": "x"}
    assert settings("1", {"a": "int"}, ab) == settings("2", {"a": "int"}, ab)
    assert settings("3", {"a": "int"}, ab) != settings("4", {"a": "Plot"}, ab)
    assert settings("5", {"a": "int"}, ab) != settings("6", {"a": "int"}, ba)
