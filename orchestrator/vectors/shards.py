"""Which of a run's gathered shards are there, as their manifest promises. Starts nothing and loads no Ray."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from muster.workers.errors import StoreError
from muster.workers.store.files import FileRecord, Files
from muster.workers.store.runs import RunFolder


def whole_shards(files: Files, folder: str, manifest: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Those of a manifest's shards that are there, with the size that it promises, by their names."""
    return {
        shard["file"]: shard
        for shard in manifest["shards"]
        if files.size(f"{folder}/{shard['file']}") == shard["bytes"]
    }


def forget_damaged(run: RunFolder, split: str) -> list[str]:
    """Reads a split's shards and deletes those that are not what their manifest promises, so that they are gathered
    again; where they were."""
    damaged = []
    for shard in (run.manifest(split) or {}).get("shards", ()):
        name = f"{run.gathered(split)}/{shard['file']}"
        found = run.files.record(name, shard["bytes"])
        if found is not None and found.sha256 != shard["sha256"]:
            try:
                run.files.delete(name)
            except StoreError as refused:
                raise StoreError(
                    f"{run.files.path(name)} is damaged. It has to be deleted, and that is refused: {refused}"
                ) from refused
            damaged.append(run.files.path(name))
    return damaged


def gathered_splits(run: RunFolder) -> list[str]:
    """The splits that were gathered, by their folders and manifests."""
    return sorted({name.removesuffix(".json") for name in run.files.names(run / "gathered")})


def shard_records(run: RunFolder) -> dict[str, FileRecord]:
    """What the manifests of a run promise of its shards, by names in the run."""
    found = {}
    for split in gathered_splits(run):
        for shard in (run.manifest(split) or {}).get("shards", ()):
            found[f"gathered/{split}/{shard['file']}"] = FileRecord(shard["bytes"], shard["sha256"])
    return found


def all_there(run: RunFolder, split: str) -> bool:
    """Whether a split was gathered and all of its shards are there."""
    manifest = run.manifest(split)
    if manifest is None:
        return False
    return len(whole_shards(run.files, run.gathered(split), manifest)) == len(manifest["shards"])
