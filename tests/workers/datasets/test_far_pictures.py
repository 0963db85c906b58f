"""One's own pictures in an object store: what is read of them is what is read of the same files on a disk."""

from __future__ import annotations

import json
import os
import pickle
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from muster.workers.datasets import DataSet, OwnPictures, Reading, open_data_set
from muster.workers.datasets.own.headers import read_headers
from muster.workers.errors import BadImagesError, SourceError, StoreError, UsageError
from muster.workers.packs.build import build_pack, find_pack
from muster.workers.store.files import Files
from muster.workers.store.layout import Store
from muster.workers.store.patience import PATIENCE
from muster.workers.store.remote import RemotePath, inner_name, place

Upload = Callable[[Path], str]


@pytest.fixture(params=["S3", "fsspec"])
def upload(request: pytest.FixtureRequest) -> Upload:
    """Copies a folder into an object store; the address of the copy."""
    if request.param == "S3":
        bucket, _, query = request.getfixturevalue("s3_bucket").partition("?")
        top = f"{bucket}/{uuid.uuid4().hex}/my pictures?{query}"
    else:
        top = f"memory://{uuid.uuid4().hex}/my pictures"

    def copied(folder: Path) -> str:
        files = Files(top)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                files.put(path.relative_to(folder).as_posix(), path.read_bytes())
        return top

    return copied


def inside(address: str, name: str) -> str:
    head, mark, query = address.partition("?")
    return f"{head}/{name}{mark}{query}"


def same(near: DataSet, far: DataSet, tmp_path: Path) -> None:
    """Lists, accounts and packs are the same."""
    mine, theirs = near.splits(), far.splits()
    assert {name: list(split.items) for name, split in mine.items()} == {
        name: list(split.items) for name, split in theirs.items()
    }
    assert isinstance(near, OwnPictures)
    assert isinstance(far, OwnPictures)
    assert near.account is not None
    assert far.account is not None
    assert near.account.document() == far.account.document()
    assert list(near.warnings) == list(far.warnings)
    store = Store(str(tmp_path / "store"))
    for name in mine:
        packs = [
            build_pack(store, data, splits[name], "short:20")
            for data, splits in ((near, mine), (far, theirs))
        ]
        assert packs[0].digest == packs[1].digest
        found = find_pack(store, far, theirs[name], "short:20", False)
        assert found is not None
        assert found.digest == packs[0].digest


def test_a_folder(upload: Upload, image_folder: Path, tmp_path: Path) -> None:
    (image_folder / "class 03" / "deep" / "er").mkdir(parents=True)
    os.rename(image_folder / "class 03" / "0.jpg", image_folder / "class 03" / "deep" / "er" / "first")
    for name in ("notes.txt", "class 00/Thumbs.db", "class 01/x.nef", ".git/config", "loose.jpg"):
        (image_folder / name).parent.mkdir(exist_ok=True)
        (image_folder / name).write_bytes(b"something")
    address = upload(image_folder)
    near, far = (open_data_set("folder", root) for root in (str(image_folder), address))
    same(near, far, tmp_path)
    assert far.image_root == address.partition("?")[0]
    assert "class 03/deep/er/first" in {item.image_id for item in far.splits()["train"].items}


def test_classes_that_are_called_as_parts_of_a_store_are(
    upload: Upload, image_folder: Path, tmp_path: Path
) -> None:
    for number, name in enumerate(("models", "weights", "runs")):
        os.rename(image_folder / f"class {number:02d}", image_folder / name)
    address = upload(image_folder)
    same(*(open_data_set("folder", root) for root in (str(image_folder), address)), tmp_path)


def test_a_folder_that_gives_its_splits(upload: Upload, image_folder: Path, tmp_path: Path) -> None:
    for place_, which in (("train", range(4)), ("val", [4]), ("query", [5, 6]), ("gallery", [5, 6])):
        for number in which:
            source, target = (
                image_folder / f"class {number:02d}",
                tmp_path / "split" / place_ / f"class {number:02d}",
            )
            target.mkdir(parents=True)
            for path in sorted(source.iterdir())[: 3 if place_ == "query" else None][::-1]:
                (target / path.name).write_bytes(path.read_bytes())
    address = upload(tmp_path / "split")
    near, far = (open_data_set("folder", root) for root in (str(tmp_path / "split"), address))
    assert isinstance(far, OwnPictures)
    assert far.gives_validation()
    assert far.traits.protocol == near.traits.protocol == "query images are looked for in the gallery"
    same(near, far, tmp_path)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "local list"])
def test_a_table_of_paths(upload: Upload, image_folder: Path, tmp_path: Path, kind: str) -> None:
    paths = sorted(path.relative_to(image_folder).as_posix() for path in image_folder.rglob("*.jpg"))
    rows = [{"path": path, "label": path.partition("/")[0]} for path in paths]
    form = "csv" if kind == "local list" else kind
    listed = image_folder / f"items.{form}"
    if form == "csv":
        listed.write_text("path,label\n" + "".join(f"{row['path']},{row['label']}\n" for row in rows))
    elif form == "jsonl":
        listed.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), listed)
    address = upload(image_folder)
    there = str(listed) if kind == "local list" else inside(address, listed.name)
    near = open_data_set("table", str(image_folder), reading=Reading(table=str(listed)))
    same(near, open_data_set("table", address, reading=Reading(table=there)), tmp_path)
    if kind != "local list":  # paths are below the list's folder where no root is given
        same(near, open_data_set("table", None, reading=Reading(table=there)), tmp_path)
    gone = paths[7]
    Files(address).delete(gone)
    with pytest.raises(UsageError, match=rf"not there.*items\.\w+(:9|:8|, row 8): {gone}"):
        open_data_set("table", address, reading=Reading(table=there)).splits()


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_pictures_in_a_table(upload: Upload, image_folder: Path, tmp_path: Path, kind: str) -> None:
    rows = [
        {"image": {"bytes": path.read_bytes(), "path": path.name}, "label": path.parent.name}
        for path in sorted(image_folder.rglob("*.jpg"))
    ]
    folder = tmp_path / "held"
    folder.mkdir()
    if kind == "parquet":
        for number in range(2):
            part = pa.Table.from_pylist(rows[number::2])
            pq.write_table(part, folder / f"data-{number:05d}-of-00002.parquet", row_group_size=5)
    else:
        table = pa.Table.from_pylist(rows)
        with pa.ipc.new_stream(folder / "data.arrow", table.schema) as writer:
            writer.write_table(table, max_chunksize=7)
        (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    address = upload(folder)
    same(open_data_set("table", str(folder)), open_data_set("table", address), tmp_path)


def test_headers_and_bad_pictures(upload: Upload, image_folder: Path, tmp_path: Path) -> None:
    (image_folder / "class 02" / "3.jpg").write_bytes(b"no picture at all")
    path = image_folder / "class 06" / "4.jpg"
    path.write_bytes(path.read_bytes()[:-40])
    data = open_data_set("folder", upload(image_folder))
    splits = data.splits()
    assert isinstance(data, OwnPictures)
    bad = dict(read_headers(data, splits).bad)
    assert list(bad) == ["class 02/3.jpg"]
    assert "it is no picture" in bad["class 02/3.jpg"]
    store = Store(str(tmp_path / "store"))
    for split, name in (
        ("train", "class 02/3.jpg: it is no picture"),
        ("test", "class 06/4.jpg: its data end"),
    ):
        with pytest.raises(BadImagesError, match=name):
            build_pack(store, data, splits[split], "short:20")


def test_what_was_written_anew_is_another_source(upload: Upload, image_folder: Path) -> None:
    address = upload(image_folder)
    digests = set()
    for change in (None, "class 01/2.jpg"):
        if change:
            Files(address).put(change, (image_folder / "class 01/3.jpg").read_bytes() + b"\0")
        data = open_data_set("folder", address)
        digests.add(data.source_digest(data.splits()["train"]))
    assert len(digests) == 2


def test_a_picture_that_goes_away_is_named(upload: Upload, image_folder: Path, tmp_path: Path) -> None:
    address = upload(image_folder)
    data = open_data_set("folder", address)
    split = data.splits()["train"]
    Files(address).delete("class 01/2.jpg")
    with pytest.raises(BadImagesError, match=r"class 01/2\.jpg: it is gone"):
        build_pack(Store(str(tmp_path / "store")), data, split, "short:20")


def test_a_data_set_goes_to_another_process_without_its_listing(upload: Upload, image_folder: Path) -> None:
    data = open_data_set("folder", upload(image_folder))
    item = data.splits()["train"].items[3]
    sent = pickle.dumps(data)
    assert len(sent) < 2000
    assert pickle.loads(sent).read(item).image.tobytes() == data.read(item).image.tobytes()


@pytest.mark.parametrize("name", ["folder", "table"])
def test_what_is_not_there_is_named_without_secrets(
    s3_bucket: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PATIENCE, "0")
    query = s3_bucket.partition("?")[2]
    with pytest.raises(UsageError, match="s3://bucket/nowhere: is the bucket called so"):
        open_data_set(name, f"s3://bucket/nowhere?{query}").splits()
    assert open_data_set(name, f"s3://bucket/nowhere?{query}").traits.published is False  # asked before
    with pytest.raises(UsageError, match="s3://absent/pictures: is the bucket called so"):
        open_data_set(name, f"s3://absent/pictures?{query}").splits()
    unreachable = "s3://key:hush@bucket/pictures?endpoint_override=127.0.0.1:9&scheme=http&region=us-east-1"
    with pytest.raises(StoreError, match=r"Can't read s3://bucket/pictures.*Check --data-root") as caught:
        open_data_set(name, unreachable).splits()
    assert "hush" not in str(caught.value)


def test_a_published_data_set_is_read_from_a_disk(s3_bucket: str) -> None:
    with pytest.raises(
        UsageError, match="cub200 is read from a folder, and s3://bucket is in an object store"
    ):
        open_data_set("cub200", s3_bucket)


def test_reading_1_knows_disks_alone(upload: Upload, image_folder: Path) -> None:
    with pytest.raises(UsageError, match="reading = 1"):
        open_data_set("folder", upload(image_folder), reading=Reading(version=1)).splits()


def test_a_listing_that_ends_in_the_middle_is_no_listing(
    upload: Upload, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder whose listing fails is asked for again, and then refused: classes are never lost without a word."""
    monkeypatch.setenv(PATIENCE, "1")
    address = upload(image_folder)
    before, tries = Files.listing, []

    def listing(self: Files, folder: str, *, recursive: bool = False) -> list[object]:
        def act() -> list[object]:
            tries.append(folder)
            if len(tries) in fails:
                raise OSError("the connection was reset")
            return before(self, folder, recursive=recursive)

        found: list[object] = self._trying("list", folder, act)
        return found

    monkeypatch.setattr(Files, "listing", listing)
    fails = {3, 4}
    assert len(open_data_set("folder", address).splits()["train"].items) == 24
    assert len(tries) == 11
    tries.clear()
    fails = set(range(3, 100))
    with pytest.raises(StoreError, match=r"Can't list .*: the connection was reset"):
        open_data_set("folder", address).splits()


def test_packing_that_a_store_interrupted_goes_on(
    upload: Upload, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PATIENCE, "0")
    data = open_data_set("folder", upload(image_folder))
    split = data.splits()["train"]
    read, names = Files.get, []

    def get(self: Files, name: str, *more: object) -> bytes:
        names.append(name)
        if len(names) == 17:
            raise SourceError("Can't read it.")
        return read(self, name, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(Files, "get", get)
    monkeypatch.setattr("muster.workers.parallel.AHEAD", 1)
    store = Store(str(tmp_path / "store"))
    with pytest.raises(SourceError, match="Can't read it"):
        build_pack(store, data, split, "short:20")
    done = len(names)
    assert len(build_pack(store, data, split, "short:20")) == 24
    assert len([name for name in names if name.startswith("class")]) < 24 + done - 10


@pytest.mark.parametrize("kind", ["S3", "fsspec"])
def test_a_remote_path_is_as_paths_are(request: pytest.FixtureRequest, kind: str) -> None:
    top = request.getfixturevalue("s3_bucket").replace("?", "/a/b?") if kind == "S3" else "memory://a/b"
    files = Files(top)
    files.put("one/two.txt", b"first\nsecond\n")
    root = place(top)
    assert isinstance(root, RemotePath)
    path = root / "one" / "two.txt"
    assert (path.name, path.suffix, path.parent, path.parent.parent) == (
        "two.txt",
        ".txt",
        root / "one",
        root,
    )
    assert str(root.parent) == str(root).rpartition("/")[0]
    for _ in range(2):  # asked for, and then known
        assert [one.is_file() for one in (path, root / "one", root / "two")] == [True, False, False]
        assert [one.is_dir() for one in (path, root / "one", root / "two")] == [False, True, False]
        assert [one.exists() for one in (path, root / "one", root / "two")] == [True, True, False]
        assert [inner_name(one, root) for one in (root / "one").iterdir()] == ["one/two.txt"]
        assert list(root.iterdir()) == [root / "one"]
    assert path.stat().st_size == 13
    with pytest.raises(FileNotFoundError):
        (root / "one" / "three.txt").stat()
    with pytest.raises(FileNotFoundError):
        (root / "one" / "three.txt").read_bytes()
    with path.open(encoding="utf-8", newline="") as text:
        assert list(text) == ["first\n", "second\n"]
    with path.open("rb") as file:
        assert (file.seek(-7, os.SEEK_END), file.read(3), file.tell(), file.read()) == (
            6,
            b"sec",
            9,
            b"ond\n",
        )
    with path.open("rb", 0) as raw:
        assert (raw.read(5), raw.seek(1, os.SEEK_CUR), raw.read()) == (b"first", 6, b"second\n")
    assert place(f"file://{Path.cwd()}") == Path.cwd()
    assert inner_name(Path("/a/b"), root) is None
    assert inner_name(root, path) is None


def test_an_address_of_a_folder_is_read_as_a_store_s_is(tmp_path: Path) -> None:
    for name in ("my pics", "ä+b", "100%"):
        address = (tmp_path / name).as_uri()
        assert place(address) == tmp_path / name == Files(address).local_root
    assert place(f"file://{tmp_path}/my pics") == tmp_path / "my pics"


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    fsspec.filesystem("memory").store.clear()
