"""Names in a store that was handed over: none leads out of it, whatever is read, written or deleted."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muster.workers.errors import CorruptFileError, DamagedRunError, StoreError
from muster.workers.store.files import FileRecord, Files
from muster.workers.store.layout import Store
from muster.workers.store.runs import RunFolder

KEY = "0" * 32
#: Beside the store is a folder `precious`; ABSOLUTE stands for its file's whole path.
ABSOLUTE = "ABSOLUTE"
OUT = [
    "../precious/file.json",
    ABSOLUTE,
    "a/../../precious",
    "..\\precious",
    "C:/precious",
    "x\0y",
    "precious/..",
]
USES: dict[str, Callable[[Files, str], Any]] = {
    "put": lambda files, name: files.put(name, b"x"),
    "create": lambda files, name: files.create(name, b"x"),
    "get": lambda files, name: files.get(name),
    "find": lambda files, name: files.find(name),
    "size": lambda files, name: files.size(name),
    "names": lambda files, name: files.names(name),
    "below": lambda files, name: list(files.below(name)),
    "delete": lambda files, name: files.delete(name),
    "delete_folder": lambda files, name: files.delete_folder(name),
}


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A folder beside the store, with a file."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file.json").write_text("kept")
    return tmp_path / "precious"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def untouched(precious: Path) -> bool:
    return [path.name for path in precious.iterdir()] == ["file.json"] and (
        precious / "file.json"
    ).read_text() == "kept"


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("name", OUT)
def test_a_name_that_leads_out_is_refused_by_every_use(
    store: Store, precious: Path, use: str, name: str
) -> None:
    with pytest.raises(StoreError, match="leads out of the store") as caught:
        USES[use](store.files, name.replace(ABSOLUTE, str(precious / "file.json")))
    assert caught.value.exit_code == 2
    assert untouched(precious)


@pytest.mark.parametrize("use", USES)
def test_a_link_deep_in_a_store_is_followed_by_no_use(store: Store, precious: Path, use: str) -> None:
    (Path(store.root) / "runs/one").mkdir(parents=True)
    (Path(store.root) / "runs/one/plots").symlink_to(precious)
    with pytest.raises(StoreError, match="is a link"):
        USES[use](store.files, "runs/one/plots/file.json")
    assert untouched(precious)
    assert store.files.names("runs/one") == []


def test_a_link_in_a_store_is_deleted_and_replaced_and_not_what_it_leads_to(
    store: Store, precious: Path
) -> None:
    run = Path(store.root) / "runs/one"
    run.mkdir(parents=True)
    for name in ("a.json", "b.json"):
        (run / name).symlink_to(precious / "file.json")
    (run / "folder").symlink_to(precious)
    store.files.put("runs/one/a.json", b"new")
    store.files.delete("runs/one/b.json")
    store.files.delete_folder("runs/one/folder")
    assert sorted(os.listdir(run)) == ["a.json"]
    assert untouched(precious)


def test_a_part_of_a_store_may_lie_on_another_disk(store: Store, tmp_path: Path) -> None:
    (tmp_path / "large/abc").mkdir(parents=True)
    Path(store.root).mkdir()
    (Path(store.root) / "packs").symlink_to(tmp_path / "large")
    store.files.put("packs/abc/DONE.json", b"{}")
    assert (store.files.names("packs"), store.files.get("packs/abc/DONE.json")) == (["abc"], b"{}")


def record(*names: str, **facts: Any) -> bytes:
    """A commit record that promises files, none of them as it is."""
    files = {name: {"size": 1, "sha256": "0" * 64} for name in names}
    return json.dumps({**facts, "files": files}).encode()


@pytest.mark.parametrize("name", ["../../../precious/file.json", *OUT])
def test_a_runs_record_deletes_nothing_outside(store: Store, precious: Path, name: str) -> None:
    run = store.run("one")
    store.files.put(run / "DONE.json", record(name.replace(ABSOLUTE, str(precious / "file.json"))))
    with pytest.raises(DamagedRunError, match=r"runs/one/DONE\.json is damaged"):
        run.record()
    run.unseal()
    assert untouched(precious)


@pytest.mark.parametrize("attempt", ["../../../../precious", "/precious", "a/b", "..", "", 7])
def test_a_models_record_sweeps_nothing_outside(store: Store, precious: Path, attempt: object) -> None:
    folder = store.model(KEY)
    store.files.put(folder.checkpoint("old", 1, "0" * 16), b"x")
    store.files.put(folder / "DONE.json", record(attempt=attempt))
    with pytest.raises(CorruptFileError, match="attempt is"):
        folder.sweep()
    assert untouched(precious)


def test_a_record_of_files_outside_is_none(store: Store, precious: Path) -> None:
    folder = store.model(KEY)
    name = "../../../precious/file.json"
    files = {name: vars(FileRecord.of(b"kept"))}
    store.files.put(folder / "DONE.json", json.dumps({"files": files}).encode())
    with pytest.raises(CorruptFileError, match="is not the name of a file below its folder"):
        folder.done()


@pytest.mark.parametrize("file", ["../../../../../precious/file.json", "/precious", "a/b.parquet", ""])
def test_a_manifest_of_shards_outside_is_none(store: Store, precious: Path, file: str) -> None:
    run = store.run("one")
    shard = {"file": file, "rows": 1, "bytes": 4, "sha256": FileRecord.of(b"kept").sha256}
    run.write("gathered/test.json", {"digest": "x", "shards": [shard]})
    assert run.manifest("test") is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("answer.json", {"weights": "../../precious/file"}),
        ("answer.json", {"written": ["../../../precious/file.json"]}),
        ("answer.json", {"targets": [{"kind": "figure", "title": "", "names": ["/precious"]}]}),
        ("answer.json", {"paths": {"report": 7}}),
        ("answer.json", {"precision": "fp7"}),
        ("metrics.json", {"identity": {}, "splits": {}}),
        ("metrics.json", {"splits": {"test": {"curve": []}}}),
        ("metrics.json", {"splits": {"test": {"curve": [{"L": 1, "recall_at_1": "x"}]}}}),
        ("metrics.json", {"splits": {"test": {"curve": [{"L": float("nan")}]}}}),
        ("metrics.json", {'{"members": []}': {"curve": [{"L": -1}]}}),
        ("plan.json", {"asks": {"x": {"members": [1], "trouble": ""}}}),
        ("run.json", {"kind": ["launch"]}),
    ],
)
def test_what_is_wrong_deep_inside_a_runs_file_is_named(store: Store, name: str, content: Any) -> None:
    run: RunFolder = store.run("one")
    run.write(name, content)
    with pytest.raises(DamagedRunError, match=rf"runs/one/{name} is damaged: .*(is|lacks) .*\. (Delete|Put)"):
        run.read(name)


def test_a_record_that_lacks_a_fact_says_so_where_it_is_asked(store: Store) -> None:
    folder = store.model(KEY)
    store.files.put(folder / "DONE.json", record())
    done = folder.done()
    assert done is not None
    with pytest.raises(CorruptFileError, match="lacks seconds"):
        done.facts["seconds"]
