"""What every store does, whatever kind of storage it is."""

from __future__ import annotations

import concurrent.futures
import itertools
import os
import pathlib
import pickle
import stat
import time
from collections.abc import Callable, Iterable, Iterator

import pytest
from aggregator.storage import (
    errors,
    http_connections,
    in_flight,
    local_files,
    local_store,
    local_transfers,
    machine_trouble,
    object_clients,
    object_store,
    opening,
    stores,
    testing,
)

from tests.helpers import dav_servers, object_servers

KEYS = [
    "plain.json",
    "run/a b/file with spaces.json",
    "run/d#e/f#g.json",
    "run/100%/d%e+f~g.json",
    "run/%20/literally%20quoted.json",
    'run/it\'s "quoted".json',
    "run/é/ü日本.json",
    "run/a&b=c?d;e:f,g@h!(i)[j]{k}.json",
    f"{'/'.join('x' * 80 for _ in range(11))}/{'y' * 8}",
]
"""Keys as templates can make them; the last one has 899 bytes."""


LARGE = 18 << 20
"""Size of a file that is written in parts."""


def nothing() -> None:
    """Do nothing."""


class StoreSuite:
    """The suite; a subclass has a fixture `store`, which gives an empty store."""

    writers_at_once = 8

    impossible = ""
    """Characters in names that the server of these tests does not take."""

    page = 50
    """Keys that one answer or request can have, where there is such a limit; elsewhere, what is many."""

    @pytest.fixture(autouse=True)
    def _small_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(object_store, "_PART", 6 << 20)
        monkeypatch.setattr(object_store, "_MOST_AT_ONCE", 12 << 20)
        monkeypatch.setattr(local_transfers, "_COPIED_AT_ONCE", 6 << 20)

    @pytest.fixture
    def fill(self, store: stores.Store) -> Callable[[Iterable[str]], None]:
        """Return what makes many objects, which have their keys as content."""

        def write(keys: Iterable[str]) -> None:
            for key in keys:
                store.write(key, key.encode(), overwrite=False)

        return write

    @pytest.mark.parametrize("key", KEYS)
    def test_what_is_written_is_read(self, store: stores.Store, key: str) -> None:
        if set(self.impossible) & set(key):
            pytest.skip(f"the server takes none of {self.impossible}")
        assert store.read(key) is None
        assert store.mark(key) is None
        store.write(key, b"content of " + key.encode(), overwrite=False)
        content = store.read(key)
        assert content is not None
        assert content.data == b"content of " + key.encode()
        assert content.mark == store.mark(key)
        assert content.mark.size == len(content.data)
        assert abs(content.mark.modified - time.time_ns()) < 60e9
        assert content.mark.changed >= content.mark.modified
        assert content.mark.tag
        assert list(store.list("")) == [(key, content.mark)]

    @pytest.mark.parametrize("key", KEYS)
    def test_keys_and_locations(self, store: stores.Store, key: str) -> None:
        assert store.key_of(store.location(key)) == key
        assert store.key_of(f"/elsewhere{store.location('')}{key}") is None
        assert store.key_of(f"memory://elsewhere/{key}") is None

    def test_neighbours_are_told_apart(self, store: stores.Store) -> None:
        keys = [key for key in KEYS if not set(self.impossible) & set(key)]
        for key in keys:
            store.write(key, key.encode(), overwrite=False)
        for key in keys:
            content = store.read(key)
            assert content is not None
            assert content.data == key.encode()
        assert store.delete_many(keys[:3]).n_deleted == 3
        assert [key for key, _ in store.list("")] == sorted(keys[3:], key=str.encode)

    def test_tags_of_directories(self, store: stores.Store) -> None:
        directories = ["run/a/1", "run/a/2", "run/b/1"]
        states = [store.directory_tags(directories)]
        for key, content in (
            ("run/a/1/x", b"1"),
            ("run/a/1/x", b"22"),
            ("run/a/1/y", b"1"),
            ("run/b/1/z", b"1"),
        ):
            store.write(key, content, overwrite=True)
            states.append(store.directory_tags(directories))
            # The clock of a file system may tick a hundred times a second.
            time.sleep(0.02)
            assert store.directory_tags(directories) == states[-1]
        for before, after in itertools.pairwise(states):
            assert sum(before.get(name) != tag for name, tag in after.items()) == 1

    def test_an_empty_object(self, store: stores.Store) -> None:
        store.write("a/empty", b"", overwrite=False)
        content = store.read("a/empty")
        assert content is not None
        assert (content.data, content.mark.size) == (b"", 0)
        assert store.read_range("a/empty", 0, 10) == b""

    def test_an_object_is_not_read_if_it_is_too_large(self, store: stores.Store) -> None:
        store.write("a", b"content", overwrite=False)
        sizes = []

        def admit(size: int) -> None:
            sizes.append(size)
            if len(sizes) > 1:
                raise stores.TooLargeError

        content = store.read("a", admit)
        assert content is not None
        assert content.data == b"content"
        with pytest.raises(stores.TooLargeError):
            store.read("a", admit)
        assert store.read("missing", admit) is None
        assert sizes == [7, 7]

    def test_a_large_object_and_its_ranges(self, store: stores.Store) -> None:
        data = os.urandom(1 << 20) * 20
        store.write("large", data, overwrite=False)
        content = store.read("large")
        assert content is not None
        assert content.data == data
        size = len(data)
        for start, length in [(0, 1), (0, size), (12345, 1 << 20), (size - 1, 1), (size - 5, 100), (size, 1)]:
            assert store.read_range("large", start, length) == data[start : start + length]
        assert store.read_range("large", 5, 7, content.mark.tag) == data[5:12]

    def test_a_range_of_what_is_not_there(self, store: stores.Store) -> None:
        with pytest.raises(FileNotFoundError):
            store.read_range("missing", 0, 1)

    def test_a_range_of_what_has_changed(self, store: stores.Store) -> None:
        store.write("a", b"before", overwrite=False)
        mark = store.mark("a")
        assert mark is not None
        store.write("a", b"after it", overwrite=True)
        with pytest.raises(stores.ChangedError):
            store.read_range("a", 0, 1, mark.tag)

    def test_overwriting(self, store: stores.Store) -> None:
        store.write("a/b", b"first", overwrite=False)
        before = store.mark("a/b")
        with pytest.raises(FileExistsError):
            store.write("a/b", b"second", overwrite=False)
        assert store.mark("a/b") == before
        store.write("a/b", b"third", overwrite=True)
        content = store.read("a/b")
        assert before is not None
        assert content is not None
        assert content.data == b"third"
        assert not store.is_same(before.tag, content.mark.tag)
        assert store.is_same(content.mark.tag, content.mark.tag)
        assert [key for key, _ in store.list("")] == ["a/b"]

    def test_of_two_writers_one_succeeds(self, store: stores.Store) -> None:
        def write(i: int) -> bool:
            try:
                store.write("contended", b"%d" % i * 1000, overwrite=False)
            except FileExistsError:
                return False
            return True

        with concurrent.futures.ThreadPoolExecutor(self.writers_at_once) as pool:
            written = list(pool.map(write, range(8)))
        assert written.count(True) == 1
        content = store.read("contended")
        assert content is not None
        assert content.data == b"%d" % written.index(True) * 1000

    def test_marks_in_bulk_keep_their_order(self, store: stores.Store) -> None:
        for i in range(0, 40, 2):
            store.write(f"dir{i % 3}/{i}", b"x" * i, overwrite=False)
        keys = [f"dir{i % 3}/{i}" for i in range(40)]
        looks = list(store.marks(keys))
        assert looks == [store.mark(key) for key in keys]
        assert [look is None for look in looks] == [i % 2 == 1 for i in range(40)]
        assert list(store.marks([])) == []
        for number in (1, 8):
            with in_flight.Requests(number) as requests:
                assert list(store.marks(keys, requests)) == looks

    def test_a_list_over_pages(self, store: stores.Store, fill: Callable[[Iterable[str]], None]) -> None:
        keys = [f"run/{i % 7}/{i}" for i in range(2 * self.page + self.page // 2)]
        fill(keys)
        store.write("runner", b"", overwrite=False)
        listed = list(store.list("run/"))
        assert [key for key, _ in listed] == sorted(keys, key=str.encode)
        assert dict(listed)["run/3/3"] == store.mark("run/3/3")
        assert [key for key, _ in store.list("run/5/")] == sorted(k for k in keys if k.startswith("run/5/"))

    def test_lists_are_in_the_order_of_bytes(self, store: stores.Store) -> None:
        keys = ["a/b", "a-b", "a.b", "a0", "aé", "a/b-c/d", "a/b/c"]
        if store.has_directories:
            keys.remove("a/b")
        for key in keys:
            store.write(key, b"", overwrite=False)
        assert [key for key, _ in store.list("")] == sorted(keys, key=str.encode)

    def test_a_list_of_what_is_not_there(self, store: stores.Store) -> None:
        store.write("file", b"", overwrite=False)
        assert list(store.list("missing/")) == []

    def test_deleting_many(self, store: stores.Store, fill: Callable[[Iterable[str]], None]) -> None:
        n_deleted = self.page + 10
        keys = [f"many/{i}" for i in range(n_deleted + 10)]
        fill(keys)
        done = store.delete_many([*keys[:n_deleted], "many/missing", "no/directory"])
        assert (done.n_deleted, done.changed, done.failures) == (n_deleted, [], [])
        assert [key for key, _ in store.list("")] == sorted(keys[n_deleted:])
        assert store.delete_many([]).n_deleted == 0

    def test_deleting_only_what_is_old(self, store: stores.Store) -> None:
        store.write("old", b"", overwrite=False)
        mark = store.mark("old")
        assert mark is not None
        done = store.delete_many(["old", "missing"], mark.changed - 1)
        assert (done.n_deleted, done.changed, done.failures) == (0, ["old"], [])
        done = store.delete_many(["old", "missing"], mark.changed)
        assert (done.n_deleted, done.changed, done.failures) == (1, [], [])
        assert store.read("old") is None

    def test_pruning(self, store: stores.Store) -> None:
        for key in ("type/a/1", "type/b/2", "other/3"):
            store.write(key, b"", overwrite=False)
        store.delete_many(["type/a/1"])
        assert store.prune("type", nothing) == (1 if store.has_directories else 0, 1, [])
        store.delete_many(["type/b/2"])
        assert store.prune("type", nothing) == (2 if store.has_directories else 0, 0, [])
        assert store.prune("missing", nothing) == (0, 0, [])
        assert [key for key, _ in store.list("")] == ["other/3"]

    def test_removing_directories_that_are_empty(self, store: stores.Store) -> None:
        for key in ("type/a/1", "type/b/2"):
            store.write(key, b"", overwrite=False)
        store.delete_many(["type/a/1"])
        removed = ["type/a"] if store.has_directories else []
        assert list(store.remove_directories(["type/a", "type/b", "type", "missing"])) == removed
        assert [key for key, _ in store.list("")] == ["type/b/2"]

    @pytest.mark.parametrize("mode", ["auto", "copy", "move"])
    def test_adopting_a_file(self, store: stores.Store, tmp_path: pathlib.Path, mode: str) -> None:
        source = tmp_path / "source"
        source.write_bytes(b"content" * 100)
        store.write("some/graph", b"old", overwrite=False)
        looks = []
        store.check_adoption(str(source), "some/graph", mode)
        store.adopt(str(source), "some/graph", mode, nothing, lambda: looks.append(store.read("some/graph")))
        store.make_durable("some/graph")
        content = store.read("some/graph")
        assert content is not None
        assert content.data == b"content" * 100
        assert [look.data for look in looks if look] == [b"old"] * len(looks)
        assert looks
        assert source.exists()
        assert [key for key, _ in store.list("")] == ["some/graph"]

    def test_adopting_is_prevented(self, store: stores.Store, tmp_path: pathlib.Path) -> None:
        source = tmp_path / "source"
        source.write_bytes(b"content")

        def refuse() -> None:
            raise errors.RefusedError("no")

        with pytest.raises(errors.RefusedError):
            store.adopt(str(source), "graph", "copy", nothing, refuse)
        assert list(store.list("")) == []
        with pytest.raises(OSError, match="graph"):
            store.make_durable("graph")

    @pytest.mark.parametrize("size", [0, 7, LARGE])
    def test_publishing_a_file(self, store: stores.Store, tmp_path: pathlib.Path, size: int) -> None:
        store.write("some/graph", b"old", overwrite=False)
        workplace = store.workplace("some/graph", str(tmp_path))
        source = pathlib.Path(f"{workplace}.made")
        data = os.urandom(1 << 20) * (size >> 20) or b"c" * size
        source.write_bytes(data)
        looks: list[bytes] = []

        def look() -> None:
            content = store.read("some/graph")
            assert content is not None
            looks.append(content.data)

        store.publish(str(source), "some/graph", look)
        assert looks == [b"old"]
        content = store.read("some/graph")
        assert content is not None
        assert content.data == data
        assert not source.exists()
        assert [key for key, _ in store.list("")] == ["some/graph"]

    @pytest.mark.parametrize("size", [7, LARGE])
    @pytest.mark.parametrize("before", [None, b"old"])
    def test_publishing_is_refused_at_the_last_moment(
        self, store: stores.Store, tmp_path: pathlib.Path, size: int, before: bytes | None
    ) -> None:
        store.write("some/other", b"", overwrite=False)
        if before is not None:
            store.write("some/graph", before, overwrite=False)
        source = pathlib.Path(f"{store.workplace('some/graph', str(tmp_path))}.made")
        source.write_bytes(b"c" * size)

        def refuse() -> None:
            raise errors.RefusedError("no")

        with pytest.raises(errors.RefusedError):
            store.publish(str(source), "some/graph", refuse)
        content = store.read("some/graph")
        assert (content and content.data) == before
        assert source.stat().st_size == size

    def test_a_place_tells_objects_apart(self, store: stores.Store) -> None:
        assert store.place("a/b") == store.place("a/b")
        assert store.place("a/b") != store.place("a/c")
        assert store.place("a/b")[-1].startswith(store.place("a")[-1] + "/")

    def test_locks(self, store: stores.Store) -> None:
        with store.lock("some/graph", "Wait."):
            with (
                pytest.raises(errors.InUseError, match=r"Wait\."),
                store.lock("some/graph", "Wait."),
            ):
                pytest.fail("locked twice")
            store.write("some/graph", b"", overwrite=False)
        with store.lock("some/graph", "Wait."):
            pass

    def test_it_can_be_sent_to_another_process(self, store: stores.Store) -> None:
        store.write("a", b"1", overwrite=False)
        copy = pickle.loads(pickle.dumps(store))
        content = copy.read("a")
        assert content is not None
        assert content.data == b"1"
        assert copy.location("a/b") == store.location("a/b")


class TestMemoryStore(StoreSuite):
    """The store for tests."""

    @pytest.fixture
    def store(self) -> stores.Store:
        return testing.MemoryStore()

    def test_trouble(self) -> None:
        def fail(method: str, key: str) -> None:
            if key == "bad":
                raise local_files.UnusableError(method)
            if key == "worse":
                raise errors.MachineError(key, method)

        store = testing.MemoryStore(trouble=fail)
        store.write("good", b"", overwrite=False)
        with pytest.raises(local_files.UnusableError, match="read"):
            store.read("bad")
        first, second = store.marks(["bad", "good"])
        assert isinstance(first, local_files.UnusableError)
        assert isinstance(second, stores.Mark)
        with pytest.raises(errors.MachineError):
            list(store.marks(["worse"]))
        assert store.delete_many(["bad", "good"]) == stores.Deletion(
            1, [], ["memory://store/bad (delete_many)"]
        )


class TestLocalStore(StoreSuite):
    """Files of a directory."""

    @pytest.fixture
    def store(self, tmp_path: pathlib.Path) -> stores.Store:
        (tmp_path / "root").mkdir()
        return local_store.LocalStore(str(tmp_path / "root"))

    @pytest.fixture
    def root(self, store: stores.Store) -> pathlib.Path:
        return pathlib.Path(store.root)

    def test_what_is_no_file(self, store: stores.Store, root: pathlib.Path) -> None:
        os.mkfifo(root / "pipe")
        (root / "directory").mkdir()
        (root / "broken").symlink_to("/nowhere/at/all")
        for key in ("pipe", "directory", "broken"):
            with pytest.raises(local_files.UnusableError):
                store.read(key)
            with pytest.raises(local_files.UnusableError):
                store.read_range(key, 0, 1)
        pipe, directory, broken, below = store.marks(["pipe", "directory", "broken", "broken/below"])
        assert isinstance(pipe, local_files.UnusableError)
        assert isinstance(directory, stores.Mark)
        assert isinstance(broken, local_files.UnusableError)
        assert isinstance(below, local_files.UnusableError)

    def test_a_file_in_place_of_a_directory(self, store: stores.Store, root: pathlib.Path) -> None:
        (root / "run").write_bytes(b"")
        with pytest.raises(local_files.UnusableError):
            store.read("run/log")
        with pytest.raises(local_files.UnusableError):
            list(store.list("run/"))
        assert store.delete_many(["run/log"]) == stores.Deletion()

    def test_trouble_of_the_machine(
        self, store: stores.Store, monkeypatch: pytest.MonkeyPatch, root: pathlib.Path
    ) -> None:
        """What can't be looked at is never missing."""
        (root / "a").write_bytes(b"1")
        monkeypatch.setattr(machine_trouble, "_PAUSES", ())

        def fail(*_: object) -> None:
            raise OSError(5, "Input/output error")

        for function in ("open", "stat", "lstat", "scandir"):
            monkeypatch.setattr(os, function, fail)
        for look in (
            lambda: store.read("a"),
            lambda: store.read_range("a", 0, 1),
            lambda: store.mark("a"),
            lambda: list(store.marks(["a"])),
            lambda: list(store.list("")),
        ):
            with pytest.raises(errors.MachineError):
                look()
        assert store.delete_many(["a"], 0).failures == [f"{root}/a (Input/output error)"]

    def test_a_changed_file_has_another_tag(self, store: stores.Store, root: pathlib.Path) -> None:
        path = root / "a"
        path.write_bytes(b"1")
        first = store.mark("a")
        assert first is not None
        os.utime(path, ns=(5, 5))
        second = store.mark("a")
        assert second is not None
        assert second.modified == 5
        assert second.changed >= first.changed
        (root / "b").write_bytes(b"1")
        os.utime(root / "b", ns=(5, 5))
        os.replace(root / "b", path)
        third = store.mark("a")
        assert third is not None
        assert not store.is_same(first.tag, second.tag)
        # Size and time are the same, the inode is not.
        assert not store.is_same(second.tag, third.tag)

    def test_the_same_file_on_another_device(self, store: stores.Store, root: pathlib.Path) -> None:
        (root / "a").write_bytes(b"1")
        mark = store.mark("a")
        assert mark is not None
        size, modified, device, inode = local_store._TAG.unpack(mark.tag)
        elsewhere = local_store._TAG.pack(size, modified, device + 1, inode + 1)
        assert store.is_same(mark.tag, elsewhere)
        assert not store.is_same(mark.tag, local_store._TAG.pack(size, modified, device, inode + 1))
        assert not store.is_same(mark.tag, local_store._TAG.pack(size, modified + 1, device + 1, inode))
        assert not store.is_same(mark.tag, b"?")
        assert not store.is_same(b"", mark.tag)

    @pytest.mark.parametrize("mtime", [-(1 << 62), (1 << 63) - 1, -1, 0])
    def test_times_far_off(self, store: stores.Store, root: pathlib.Path, mtime: int) -> None:
        (root / "a").write_bytes(b"1")
        os.utime(root / "a", ns=(0, mtime))
        content = store.read("a")
        assert content is not None
        assert content.mark == store.mark("a")

    def test_links_to_directories_are_followed_once(self, store: stores.Store, root: pathlib.Path) -> None:
        (root / "real").mkdir()
        (root / "real" / "file").write_bytes(b"")
        (root / "link").symlink_to(root / "real")
        (root / "real" / "loop").symlink_to(root)
        assert [key for key, _ in store.list("")] == ["link/file", "real/file"]

    def test_without_hard_links(
        self, store: stores.Store, monkeypatch: pytest.MonkeyPatch, root: pathlib.Path
    ) -> None:
        def refuse(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
        store.write("a", b"1", overwrite=False)
        with pytest.raises(FileExistsError):
            store.write("a", b"2", overwrite=False)
        assert {p.name: p.read_bytes() for p in root.iterdir()} == {"a": b"1"}

    def test_files_may_be_read_as_the_umask_says(self, store: stores.Store, root: pathlib.Path) -> None:
        before = os.umask(0o027)
        try:
            store.write("a", b"1", overwrite=True)
        finally:
            os.umask(before)
        assert stat.S_IMODE((root / "a").stat().st_mode) == 0o640

    def test_the_root_is_told_by_its_inode(self, store: stores.Store, root: pathlib.Path) -> None:
        status = root.stat()
        assert store.identity() == (os.path.realpath(root), status.st_dev, status.st_ino)
        root.rename(root.with_name("moved"))
        assert store.identity() == (os.path.realpath(root), 0, 0)

    def test_a_hard_link_to_another_device_is_refused(
        self, store: stores.Store, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
    ) -> None:
        elsewhere = pathlib.Path("/dev/shm")
        if not elsewhere.is_dir() or elsewhere.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("there is just one file system")
        source = elsewhere / f"aggregator-{os.getpid()}"
        source.write_bytes(b"1")
        try:
            with pytest.raises(errors.RefusedError, match="another file system"):
                store.check_adoption(str(source), "a/b/c", "hardlink")
            store.check_adoption(str(source), "a/b/c", "move")
            store.adopt(str(source), "a/b/c", "move", nothing, nothing)
        finally:
            source.unlink()
        assert store.origin("a/b/c") in (None, str(source))
        assert store.read("a/b/c") is not None


class TestS3Store(StoreSuite):
    """Objects of an S3 server."""

    # The server of these tests looks whether there is an object and writes it in two steps.
    writers_at_once = 1
    page = 1000

    @pytest.fixture
    def bucket(self, s3: object_servers.S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        return s3.new_bucket()

    @pytest.fixture
    def store(self, bucket: str) -> stores.Store:
        return opening.open_store(f"s3://{bucket}/repo a")

    @pytest.fixture
    def fill(self, s3: object_servers.S3Server, bucket: str) -> Callable[[Iterable[str]], None]:
        def write(keys: Iterable[str]) -> None:
            for key in keys:
                s3.put(bucket, f"repo a/{key}", key.encode())

        return write

    def test_keys_of_the_bucket(self, store: stores.Store, bucket: str, s3: object_servers.S3Server) -> None:
        for key in KEYS:
            store.write(key, b"", overwrite=False)
        assert s3.keys(bucket) == sorted((f"repo a/{key}" for key in KEYS), key=str.encode)

    def test_a_store_sees_nothing_beside_its_root(self, store: stores.Store, bucket: str) -> None:
        opening.open_store(f"s3://{bucket}").write("repo a2/b", b"", overwrite=False)
        assert list(store.list("")) == []

    def test_a_profile_is_another_way_to_the_same_place(
        self, store: stores.Store, bucket: str, s3: object_servers.S3Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LSST_RESOURCES_S3_PROFILE_site", s3.url)
        assert opening.open_store(f"s3://site@{bucket}/repo%20a").place("b") == store.place("b")
        monkeypatch.setenv("LSST_RESOURCES_S3_PROFILE_site", "http://127.0.0.1:9")
        assert opening.open_store(f"s3://site@{bucket}/repo%20a").place("b") != store.place("b")

    def test_locations(self, store: stores.Store, bucket: str) -> None:
        assert store.location("d#e/f g.json") == f"s3://{bucket}/repo%20a/d%23e/f%20g.json"

    @pytest.mark.parametrize("root", ["s3://no-such-bucket/repo", "s3://no-such-bucket"])
    def test_a_missing_bucket_is_refused(self, bucket: str, root: str) -> None:
        store = opening.open_store(root)
        for look in (lambda: store.read("a"), lambda: store.mark("a"), lambda: list(store.list(""))):
            with pytest.raises(errors.RefusedError, match="no such bucket"):
                look()

    def test_a_bucket_that_goes_away(
        self, store: stores.Store, bucket: str, s3: object_servers.S3Server
    ) -> None:
        """Its objects are not missing: nobody knows."""
        assert store.read("a") is None
        s3.remove_bucket(bucket)
        with pytest.raises(errors.MachineError, match="no such bucket"):
            store.read("a")

    def test_without_credentials(self, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.setenv("HOME", "/nowhere")
        with pytest.raises(errors.RefusedError, match="no credentials"):
            opening.open_store(f"s3://{bucket}/without").read("a")

    def test_many_are_deleted_by_few_requests(
        self, bucket: str, s3: object_servers.S3Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keys = [f"d{i % 10}/é {i}" for i in range(2000)]
        plain = opening.open_store(f"s3://{bucket}/repo")
        for key in keys:
            s3.put(bucket, f"repo/{key}", b"")
        with object_servers.FaultyServer(s3, lambda method, path: 0) as counting:
            monkeypatch.setenv("LSST_RESOURCES_S3_PROFILE_count", counting.url)
            store = opening.open_store(f"s3://count@{bucket}/repo")
            store.check()
            before = counting.n_requests
            assert store.delete_many([*sorted(keys)[:1000], "d3/missing"]).n_deleted == 1000
            assert counting.n_requests - before <= 4
        assert [key for key, _ in plain.list("")] == sorted(keys, key=str.encode)[1000:]

    def test_few_are_deleted_among_many(
        self, store: stores.Store, fill: Callable[[Iterable[str]], None]
    ) -> None:
        keys = [f"d/{i:04}" for i in range(1500)]
        fill(keys)
        done = store.delete_many([*keys[::60], "d/1499a", "d/0000a"])
        assert (done.n_deleted, done.failures) == (25, [])
        assert [key for key, _ in store.list("")] == [key for i, key in enumerate(keys) if i % 60]

    def test_links_are_refused(self, store: stores.Store) -> None:
        for mode in ("link", "symlink", "hardlink", "relsymlink"):
            with pytest.raises(errors.RefusedError, match="copy or move"):
                store.check_adoption("/a", "b", mode)


class TestGoogleStore(StoreSuite):
    """Objects of a server that looks like Google's."""

    writers_at_once = 1

    @pytest.fixture
    def google(self, s3: object_servers.S3Server) -> Iterator[object_servers.GoogleServer]:
        with object_servers.GoogleServer(s3, lambda method, path: 0) as server:
            yield server

    @pytest.fixture
    def bucket(
        self,
        s3: object_servers.S3Server,
        google: object_servers.GoogleServer,
        tmp_path_factory: pytest.TempPathFactory,
        monkeypatch: pytest.MonkeyPatch,
    ) -> str:
        for name, value in google.environment(tmp_path_factory.mktemp("google")).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setitem(object_clients._CLIENT, "allow_http", True)
        return s3.new_bucket()

    @pytest.fixture
    def store(self, bucket: str) -> stores.Store:
        return opening.open_store(f"gs://{bucket}/repo a")

    @pytest.fixture
    def fill(self, s3: object_servers.S3Server, bucket: str) -> Callable[[Iterable[str]], None]:
        def write(keys: Iterable[str]) -> None:
            for key in keys:
                s3.put(bucket, f"repo a/{key}", key.encode())

        return write

    def test_locations(self, store: stores.Store, bucket: str) -> None:
        assert store.location("d#e/f g.json") == f"gs://{bucket}/repo%20a/d%23e/f%20g.json"

    def test_a_missing_bucket_is_refused(self, bucket: str) -> None:
        store = opening.open_store("gs://no-such-bucket/repo")
        for look in (lambda: store.read("a"), lambda: store.mark("a"), lambda: list(store.list(""))):
            with pytest.raises(errors.RefusedError, match="no such bucket"):
                look()

    def test_without_credentials(self, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
        with pytest.raises(errors.RefusedError, match="GOOGLE_APPLICATION_CREDENTIALS"):
            opening.open_store(f"gs://{bucket}/without").read("a")


@pytest.fixture(scope="module")
def dav(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dav_servers.DavServer]:
    with dav_servers.running(tmp_path_factory.mktemp("dav")) as server:
        yield server
        http_connections.idle.close()


class TestDavStore(StoreSuite):
    """Files of a WebDAV server."""

    # The server of these tests looks whether there is a file and moves another one there in two steps.
    writers_at_once = 1
    # It takes these in the target of a move for the end of the path.
    impossible = "?;"

    @pytest.fixture
    def store(self, dav: dav_servers.DavServer) -> stores.Store:
        dav.fault = lambda method, path: 0
        return opening.open_store(dav.new_root())

    @pytest.fixture
    def root(self, store: stores.Store, dav: dav_servers.DavServer) -> pathlib.Path:
        return dav.directory / store.root.rpartition("/")[2]

    def test_lists_are_in_the_order_of_bytes(self, store: stores.Store) -> None:
        keys = ["a-b", "a.b", "a0", "aé", "a/b-c/d", "a/b/c"]
        for key in keys:
            store.write(key, b"", overwrite=False)
        assert [key for key, _ in store.list("")] == sorted(keys, key=str.encode)

    def test_directories_are_not_deleted(self, store: stores.Store, root: pathlib.Path) -> None:
        """With all that is in them."""
        store.write("a/b/c", b"1", overwrite=False)
        done = store.delete_many(["a/b", "a"])
        assert done.n_deleted == 0
        assert len(done.failures) == 2
        assert (root / "a" / "b" / "c").read_bytes() == b"1"

    def test_nothing_is_left_of_what_fails(
        self, store: stores.Store, root: pathlib.Path, dav: dav_servers.DavServer
    ) -> None:
        store.write("a", b"1", overwrite=False)
        dav.fault = lambda method, path: 403 if method == "MOVE" else 0
        with pytest.raises((OSError, local_files.UnusableError)):
            store.write("a", b"2", overwrite=True)
        dav.fault = lambda method, path: 0
        assert {path.name: path.read_bytes() for path in root.iterdir()} == {"a": b"1"}

    @pytest.mark.parametrize("status", [401, 403])
    def test_denied(self, store: stores.Store, dav: dav_servers.DavServer, status: int) -> None:
        dav.fault = lambda method, path: status
        for look in (
            lambda: store.read("a"),
            lambda: store.mark("a"),
            lambda: store.read_range("a", 0, 1),
            lambda: list(store.list("")),
        ):
            with pytest.raises(local_files.UnusableError, match="denied"):
                look()
        with pytest.raises(errors.RefusedError, match="denied"):
            store.check()
        with pytest.raises(errors.MachineError):
            store.is_there("a")

    def test_a_server_in_trouble(
        self, store: stores.Store, dav: dav_servers.DavServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(http_connections, "_FIRST_PAUSE", 0.001)
        monkeypatch.setattr(http_connections, "_LONGEST_PAUSE", 0.002)
        store.write("a", b"1", overwrite=False)
        left = iter([503, 500, 429, 0])
        dav.fault = lambda method, path: next(left, 0)
        content = store.read("a")
        assert content is not None
        assert content.data == b"1"
        dav.fault = lambda method, path: 503
        for look in (lambda: store.read("a"), lambda: store.mark("a"), lambda: list(store.list(""))):
            with pytest.raises(errors.MachineError, match="503"):
                look()

    def test_a_server_that_only_gives_files(self, store: stores.Store, dav: dav_servers.DavServer) -> None:
        dav.fault = lambda method, path: 0 if method in ("GET", "HEAD") else 405
        store.check()
        with pytest.raises(errors.RefusedError, match="no WebDAV server"):
            store.check_writeable()
        with pytest.raises(errors.RefusedError, match="no WebDAV server"):
            store.check_adoption("/a", "b", "copy")
        assert store.read("missing") is None

    def test_links_are_refused(self, store: stores.Store) -> None:
        for mode in ("link", "symlink", "hardlink", "relsymlink"):
            with pytest.raises(errors.RefusedError, match="copy or move"):
                store.check_adoption("/a", "b", mode)
