"""The gathered shards: every image's own row in whichever shard, other programs' readers, and what is lost of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas
import polars
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from muster.orchestrator.ensemble.requests import EnsembleResult
from muster.orchestrator.vectors import gather as gathering
from muster.orchestrator.vectors.gather import Gathered, gather
from muster.orchestrator.vectors.shards import all_there, forget_damaged, shard_records
from muster.workers.score.combine import Combination, combine
from muster.workers.store.files import FileRecord
from muster.workers.store.layout import Store
from muster.workers.store.vectors import read_vectors, write_vectors
from tests.orchestrator.jobs.launch.test_bier import SHARD
from tests.orchestrator.made_ensembles import concatenation, labels_of, made_ensemble

ROWS = 40


@pytest.fixture(scope="module")
def made(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, EnsembleResult]:
    store = Store(str(tmp_path_factory.mktemp("made")))
    return store, made_ensemble(store, shapes, "made", D=4, L=3)


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "_shard_rows", lambda dimension: ROWS)


@pytest.fixture
def gathered(made: tuple[Store, EnsembleResult], small_shards: None) -> Callable[..., Gathered]:
    """Gathers members of the made ensemble into a run of the test's own, with no cluster."""
    store, got = made

    def run(name: str, members: int = 3, dtype: str = "float32", **facts: Any) -> Gathered:
        return gather(store, name, got.target("test"), got.members[:members], facts, dtype, spread=here)

    return run


WRITTEN: list[str] = []


def here(calls: Sequence[tuple[Any, ...]]) -> list[dict[str, Any]]:
    WRITTEN[:] = [call[1].rpartition("/")[2] for call in calls]
    return [gathering.write_shard(*call) for call in calls]


def folder_of(store: Store, run: str) -> Path:
    return Path(store.root) / f"runs/{run}/gathered/test"


def test_each_shard_holds_its_own_images(
    made: tuple[Store, EnsembleResult], gathered: Callable[..., Gathered]
) -> None:
    store, got = made
    found = gathered("rows")
    assert [shard["rows"] for shard in found.shards] == [40, 40, 16]
    tables = [pq.read_table(shard["path"]) for shard in found.shards]
    assert [table.num_rows for table in tables] == [40, 40, 16]
    assert [shard["bytes"] for shard in found.shards] == [
        Path(shard["path"]).stat().st_size for shard in found.shards
    ]
    assert Path(found.folder) == folder_of(store, "rows")
    vectors = np.concatenate([np.stack(table["embedding"].to_numpy()) for table in tables])
    assert np.array_equal(vectors, concatenation(store, got, "test", 3).astype(np.float32))
    names = [name for table in tables for name in table["image_id"].to_pylist()]
    assert len(set(names)) == 96
    labels = [label for table in tables for label in table["label"].to_pylist()]
    assert [name.partition("/")[0] for name in names] == labels
    assert len(set(labels)) == labels_of(store, got, "test").max() + 1


def test_the_folder_opens_as_one_in_other_programs(
    made: tuple[Store, EnsembleResult], gathered: Callable[..., Gathered], tmp_path: Path
) -> None:
    import datasets

    store, _ = made
    gathered("opened")
    folder = folder_of(store, "opened")
    rows = {
        "pandas": len(pandas.read_parquet(folder)),
        "pyarrow": pyarrow.dataset.dataset(folder).count_rows(),
        "polars": polars.read_parquet(folder).height,
        "duckdb": duckdb.sql(f"SELECT count(*) FROM '{folder}/*.parquet'").fetchall()[0][0],
        "datasets": datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path)).num_rows,
    }
    assert set(rows.values()) == {96}, rows


def test_the_manifest_beside_it_says_what_a_reader_needs(
    made: tuple[Store, EnsembleResult], gathered: Callable[..., Gathered], shapes: Path
) -> None:
    store, _ = made
    gathered("told", backbone="conv4", image_root=str(shapes))
    manifest = json.loads(folder_of(store, "told").with_suffix(".json").read_text())
    assert manifest["rows"] == 96
    assert (manifest["L"], manifest["dimension"], manifest["backbone"]) == (3, 12, "conv4")
    table = pq.read_table(folder_of(store, "told"))
    assert set(table.column_names) == set(manifest["columns"])
    assert table.schema.remove_metadata().equals(SHARD)
    assert all(Path(path).is_file() for path in table["path"].to_pylist())
    inside = json.loads(table.schema.metadata[b"muster"])
    assert inside == {name: manifest[name] for name in manifest.keys() - {"rows", "shards", "check"}}
    columns = pq.ParquetFile(folder_of(store, "told") / "part-00000.parquet").metadata.row_group(0)
    found = [columns.column(number) for number in range(columns.num_columns)]
    assert {column.compression for column in found} == {"ZSTD"}
    assert [column.path_in_schema for column in found if column.has_dictionary_page] == ["label", "role"]
    gathered("told-again")
    assert pq.read_table(folder_of(store, "told-again"))["path"].null_count == 96


def test_a_shard_has_as_many_rows_as_its_size_allows(
    made: tuple[Store, EnsembleResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, got = made
    monkeypatch.setattr(gathering, "ROW_GROUP", 10)
    monkeypatch.setattr(gathering, "SHARD_BYTES", 35 * 12 * 4)
    found = gather(store, "sized", got.target("test"), got.members, {}, "float32", spread=here)
    assert [shard["rows"] for shard in found.shards] == [30, 30, 30, 6]
    assert pq.ParquetFile(found.shards[0]["path"]).num_row_groups == 3


@pytest.mark.parametrize("how", ["share", "sqrt", "concat"])
def test_learners_are_gathered_as_they_are_combined(
    made: tuple[Store, EnsembleResult], small_shards: None, how: Any
) -> None:
    store, got = made
    combination = Combination((1, 3), how)
    found = gather(store, how, got.target("test"), got.members[:1], {}, "float32", combination, spread=here)
    vectors = np.concatenate(
        [np.stack(pq.read_table(s["path"])["embedding"].to_numpy()) for s in found.shards]
    )
    raw = concatenation(store, got, "test", 1).astype(np.float32)
    assert np.array_equal(vectors, combine(raw, (1, 3), how))
    again = gather(store, how, got.target("test"), got.members[:1], {}, "float32", spread=here)
    assert len(again.shards) == len(WRITTEN) == 3  # whole vectors are other shards


def test_nothing_is_left_of_a_gathering_that_had_more_shards(
    made: tuple[Store, EnsembleResult], gathered: Callable[..., Gathered], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = made
    gathered("fewer")
    assert not all_there(store.run("fewer"), "train")
    monkeypatch.setattr(gathering, "_shard_rows", lambda dimension: 96)
    gathered("fewer", 2)
    assert [path.name for path in folder_of(store, "fewer").iterdir()] == ["part-00000.parquet"]


@pytest.mark.parametrize("damage", ["lost", "cut", "grown"])
def test_a_shard_that_is_not_what_was_written_is_written_again_and_no_other(
    made: tuple[Store, EnsembleResult], gathered: Callable[..., Gathered], damage: str
) -> None:
    store, _ = made
    run = store.run(damage)
    before = gathered(damage)
    shard = folder_of(store, damage) / "part-00001.parquet"
    good = shard.read_bytes()
    assert all_there(run, "test")
    shard.unlink() if damage == "lost" else shard.write_bytes(good[:-9] if damage == "cut" else good + b"x")
    assert not all_there(run, "test")
    assert gathered(damage) == before
    assert WRITTEN == ["part-00001.parquet"]
    assert shard.read_bytes() == good
    assert all_there(run, "test")
    gathered(damage)
    assert WRITTEN == ["part-00001.parquet"]  # nothing more


def test_a_flipped_byte_of_a_shard_is_found_by_reading_it(
    made: tuple[Store, EnsembleResult], gathered: Callable[..., Gathered]
) -> None:
    run = made[0].run("flipped")
    gathered("flipped")
    assert forget_damaged(run, "test") == []
    shard = folder_of(made[0], "flipped") / "part-00001.parquet"
    good = shard.read_bytes()
    shard.write_bytes(good[:60] + bytes([good[60] ^ 1]) + good[61:])
    assert all_there(run, "test")  # by its size
    assert forget_damaged(run, "test") == [str(shard)]
    gathered("flipped")
    assert WRITTEN == ["part-00001.parquet"]
    assert shard.read_bytes() == good


def test_other_members_or_numbers_are_another_gathering(
    made: tuple[Store, EnsembleResult], gathered: Callable[..., Gathered]
) -> None:
    store, _ = made
    run = store.run("changed")
    digests = []
    for members, dtype in ((3, "float32"), (2, "float32"), (2, "float16")):
        gathered("changed", members, dtype)
        assert len(WRITTEN) == 3
        manifest = run.manifest("test")
        assert manifest is not None
        digests.append(manifest["digest"])
        table = pq.read_table(folder_of(store, "changed"))
        assert table.schema.field("embedding").type.list_size == 4 * members
        assert str(table.schema.field("embedding").type.value_type).replace("halffloat", "float16") in {
            dtype,
            "float" if dtype == "float32" else dtype,
        }
    assert len(set(digests)) == 3


def test_a_manifest_of_an_older_store_lies_in_the_folder_and_is_read(
    made: tuple[Store, EnsembleResult], gathered: Callable[..., Gathered]
) -> None:
    store, _ = made
    before = gathered("older")
    folder = folder_of(store, "older")
    folder.with_suffix(".json").rename(folder / "manifest.json")
    WRITTEN.clear()
    assert gathered("older") == before
    assert WRITTEN == []
    (folder / "part-00000.parquet").unlink()
    gathered("older")
    assert sorted(path.name for path in folder.iterdir()) == [f"part-0000{n}.parquet" for n in range(3)]


def test_the_record_of_a_run_takes_shards_from_their_manifest(
    made: tuple[Store, EnsembleResult], gathered: Callable[..., Gathered]
) -> None:
    store, _ = made
    gathered("sealed")
    run = store.run("sealed")
    records = shard_records(run)
    folder = folder_of(store, "sealed")
    assert records == {
        f"gathered/test/{path.name}": FileRecord.of(path.read_bytes()) for path in folder.iterdir()
    }
    assert shard_records(store.run("never-gathered")) == {}
    assert set(records) == {f"gathered/test/part-0000{n}.parquet" for n in range(3)}
    run.seal({"state": "done"}, records)
    assert run.record()["gathered/test/part-00002.parquet"] == records["gathered/test/part-00002.parquet"]
    assert set(run.record()) == {*records, "gathered/test.json"}


def test_members_that_were_trained_again_are_gathered_again(
    shapes: Path, small_shards: None, tmp_path: Path
) -> None:
    """Their keys are the same, and on another machine their vectors are not: no shard of before stays."""
    store = Store(str(tmp_path))
    got = made_ensemble(store, shapes, "made", D=4, L=2)
    target = got.target("test")
    again = partial(gather, store, "run", target, got.members, {}, "float32", spread=here)
    again()
    again()
    assert len(WRITTEN) == 3  # of the first time
    folder = store.model(got.tasks[1].key).embedding(target.digest)
    other = np.roll(read_vectors(folder), 1, axis=0)
    folder.distrust()
    write_vectors(folder, other, {})
    WRITTEN.clear()
    found = again()
    assert len(WRITTEN) == 3
    rows = np.stack(pq.read_table(found.folder)["embedding"].to_numpy())
    assert np.array_equal(rows[:, 4:], other)
