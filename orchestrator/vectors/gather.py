"""The members' vectors, joined: Parquet shards that other programs read with no help of ours.

A shard is a Ray task: it holds one range of images, of all members, and no more. The manifest, which lies beside the
folder of the shards, is put last. A folder whose manifest names other members is emptied before anything is written, so
that a reader never finds shards of two ensembles side by side; of the same members gathered again only the shards that
are lost are written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from muster.orchestrator.vectors.shards import whole_shards
from muster.orchestrator.vectors.vectors import content_of, images_of, member_vectors
from muster.workers.score.combine import Combination
from muster.workers.store.files import FileRecord
from muster.workers.store.layout import Store
from muster.workers.store.parquet import table_bytes
from muster.workers.store.runs import RunFolder
from muster.workers.task import MemberTask, Target

SCHEMA_VERSION = 1
#: Rows of a shard are chosen so that its vectors take about this much.
SHARD_BYTES = 256 << 20
ROW_GROUP = 1024
#: What each column of a shard is.
COLUMNS = {
    "image_id": "the image's name in the data set",
    "label": "the class's name",
    "path": "the image's file when it was gathered; null where it has none of its own",
    "role": "query or gallery, where the data set says which; empty: both",
    "embedding": "the vector, the members' parts side by side at their offsets",
}
NORMALISATION = "each member's vector has length 1; compare by dot product (the sum of the members' cosines)"
COMBINED = "each learner's vector has length 1 times its weight (combine); compare by dot product"


#: Calls `write_shard` with each of these arguments, in any order; what it returned, in theirs.
Spread = Callable[[Sequence[tuple[Any, ...]]], list[dict[str, Any]]]


def on_ray(calls: Sequence[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """A task of the cluster for each."""
    task: Any = ray.remote(num_cpus=1, max_retries=3)(write_shard)
    found: list[dict[str, Any]] = ray.get([task.remote(*call) for call in calls])
    return found


@dataclass(frozen=True)
class Gathered:
    """Where an ensemble's shards are."""

    folder: str
    shards: tuple[dict[str, Any], ...]
    "For each: path, rows, bytes."


def gather(
    store: Store,
    run: str,
    target: Target,
    members: Sequence[MemberTask],
    facts: dict[str, Any],
    dtype: str,
    combination: Combination | None = None,
    spread: Spread | None = None,
) -> Gathered:
    """Writes the shards of an ensemble: members in index order, each at its offset in the vector.

    `facts` goes into the manifest and into every shard's schema metadata. BIER's learners are combined as
    `combination` says; `spread` calls `write_shard` for each shard, by default on Ray. Raises DamagedMember.
    """
    content = content_of(store, target, [task.key for task in members])
    manifest = {**_manifest(target, members, facts, dtype, combination), "vectors": content}
    place = store.run(run)
    folder, before = place.gathered(target.split), place.manifest(target.split)
    same = (
        before is not None
        and before["digest"] == manifest["digest"]
        and before.get("vectors", content) == content
    )
    whole = {} if before is None or not same else whole_shards(store.files, folder, before)
    if before is not None and same and len(whole) == len(before["shards"]):
        return Gathered(store.files.path(folder), _listed(store, folder, before))
    _forget(store, place, target.split, all_shards=not same)
    rows = len(images_of(store, target)[1].rows)
    size = _shard_rows(manifest["dimension"])
    ranges = {f"part-{n:05d}.parquet": start for n, start in enumerate(range(0, rows, size))}
    written = (spread or on_ray)(
        [
            (store.root, f"{folder}/{name}", target, manifest, start, min(start + size, rows))
            for name, start in ranges.items()
            if name not in whole
        ]
    )
    shards = whole | {shard["file"]: shard for shard in written}
    manifest = {**manifest, "rows": rows, "shards": [shards[name] for name in ranges]}
    place.write(f"gathered/{target.split}.json", manifest)
    return Gathered(store.files.path(folder), _listed(store, folder, manifest))


def _forget(store: Store, place: RunFolder, split: str, *, all_shards: bool) -> None:
    """Makes room for shards that are written anew; until then there is no manifest that promises any."""
    folder = place.gathered(split)
    store.files.delete(place / f"gathered/{split}.json")
    store.files.delete(f"{folder}/manifest.json")
    if all_shards:
        store.files.delete_folder(folder)


def _manifest(
    target: Target,
    members: Sequence[MemberTask],
    facts: dict[str, Any],
    dtype: str,
    combination: Combination | None,
) -> dict[str, Any]:
    offsets = np.cumsum([0, *(task.spec.dimension for task in members)]).tolist()
    entries = [
        {"index": task.spec.index, "key": task.key, "offset": offset, "dimension": task.spec.dimension}
        for task, offset in zip(members, offsets, strict=False)
    ]
    identity = {"version": SCHEMA_VERSION, "target": target.digest, "members": entries, "dtype": dtype}
    how: dict[str, Any] = {"normalisation": NORMALISATION}
    if combination is not None:
        how = {"normalisation": COMBINED, "learners": combination.sizes, "combine": combination.how}
        identity["combine"] = combination.how
    return {
        "schema_version": SCHEMA_VERSION,
        "digest": hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32],
        "split": target.split,
        "images_digest": target.images.digest,
        "embedding_digest": target.digest,
        "dtype": dtype,
        "dimension": offsets[-1],
        **how,
        "members": entries,
        "L": len(members),
        "columns": COLUMNS,
        **facts,
    }


def _shard_rows(dimension: int) -> int:
    return max(1, SHARD_BYTES // (dimension * 4) // ROW_GROUP) * ROW_GROUP


def _listed(store: Store, folder: str, manifest: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    return tuple(
        {
            "path": store.files.path(f"{folder}/{shard['file']}"),
            "rows": shard["rows"],
            "bytes": shard["bytes"],
        }
        for shard in manifest["shards"]
    )


def write_shard(
    root: str, name: str, target: Target, manifest: dict[str, Any], start: int, stop: int
) -> dict[str, Any]:
    """Writes the images `start` to `stop` of all members; what the manifest says of it. Raises DamagedMember."""
    store = Store(root)
    combination = Combination(manifest["learners"], manifest["combine"]) if "combine" in manifest else None
    dtype = np.dtype(manifest["dtype"])
    joined = np.empty((stop - start, manifest["dimension"]), dtype=dtype)
    for entry in manifest["members"]:
        columns = slice(entry["offset"], entry["offset"] + entry["dimension"])
        joined[:, columns] = member_vectors(store, entry["key"], target.digest, start, stop, combination)
    data = _parquet(_names(store, target, manifest, start, stop), joined, manifest)
    store.files.put(name, data)
    record = FileRecord.of(data)
    file = name.rpartition("/")[2]
    return {"file": file, "rows": stop - start, "bytes": record.size, "sha256": record.sha256}


def _names(store: Store, target: Target, manifest: Mapping[str, Any], start: int, stop: int) -> pa.Table:
    index, part = images_of(store, target)
    table = index.table.take(pa.array(part.rows[start:stop]))
    return pa.table(
        {
            "image_id": table["image_id"],
            "label": table["class_name"],
            "path": _paths(table["image_id"], manifest.get("image_root")),
            "role": table["role"],
        }
    )


def _paths(names: pa.ChunkedArray, root: str | None) -> pa.Array:
    return pa.array([None if root is None else f"{root}/{name}" for name in names.to_pylist()], pa.string())


def _parquet(names: pa.Table, joined: np.ndarray, manifest: dict[str, Any]) -> bytes:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(joined.reshape(-1)), joined.shape[1])
    table = names.append_column("embedding", vectors)
    table = table.replace_schema_metadata({"muster": json.dumps(manifest)})
    return table_bytes(table, row_group_size=ROW_GROUP, compression="zstd", use_dictionary=["label", "role"])
