"""A small search and what came of it, for the tests that run searches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WINDOW = 2
DS = (2, 3, 6)


def tiny_members(shapes: Path) -> list[object]:
    """Flags of members that train in a moment and are not all perfect."""
    return [
        "--dataset", "folder", "--data-root", shapes, "--image-size", 16, "--backbone", "conv4",
        "--epochs", 1, "--set", "batch_size=16", "--set", "lr=0.002",
    ]  # fmt: skip


def small_search(shapes: Path) -> list[object]:
    """Flags of a small search: three trials of up to five members, and one rung."""
    return [
        "search", *tiny_members(shapes), "--D", ",".join(map(str, DS)), "--max-L", 5, "--val-classes", 4,
        "--window", WINDOW, "--reduction", 3, "--no-floors",
    ]  # fmt: skip


def trained(store: Path) -> set[tuple[int, int]]:
    """(D, index) of every finished member of the store."""
    specs = [json.loads((done.parent / "spec.json").read_text()) for done in store.glob("models/*/DONE.json")]
    return {(spec["D"], spec["index"]) for spec in specs}


def attempts(store: Path) -> set[int]:
    """How many attempts the store's members have: {1} if nothing was trained twice."""
    return {len(list(folder.iterdir())) for folder in store.glob("models/*/attempts")}


def outcome(answer: Any) -> dict[str, Any]:
    """What a search found, without what it cost and where it ran."""
    own = ("trained", "reused")
    trials = [{key: value for key, value in row.items() if key not in own} for row in answer["trials"]]
    kept = ("verdicts", "best", "pareto", "curve", "chosen_on", "state")
    chosen = {key: answer["recommended"][key] for key in ("trial", "L", "sentence")}
    return {"trials": trials, "recommended": chosen, **{key: answer[key] for key in kept}}
