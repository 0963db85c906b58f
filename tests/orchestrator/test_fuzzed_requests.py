"""Settings files, and requests that a run's folder keeps, changed in every way: each mistake is a sentence."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster.orchestrator.jobs.registry import job_of
from muster.orchestrator.jobs.search.request import load_search
from muster.orchestrator.methods.loading import load
from muster.orchestrator.records.events import from_line
from muster.workers.errors import MusterError
from tests.fuzzing import bounded, byte_mutations, fuzzed, json_mutations, text_mutations

TOML = b"""method = "bier"
name = "mine"
image_size = 24

[data]
dataset = "glyphs"
val_classes = 2

[ensemble]
seed = 1
backbone = "conv4"
precision = "fp32"

[resources]
parallel = 2
eval_memory = "1GB"

[bier]
labels = 4
images = 2
steps = 5
"""


def test_a_changed_settings_file_is_read_or_every_mistake_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(TOML)
    assert load(path, {}, []).name == "mine"

    @fuzzed(60)
    @given(st.one_of(text_mutations(TOML), byte_mutations(TOML)))
    def each(data: bytes) -> None:
        path.write_bytes(data)
        with bounded():
            try:
                load(path, {}, []).document()
            except MusterError as error:
                assert error.exit_code == 2  # noqa: PT017
                assert str(error).strip()  # noqa: PT017

    each()


def documents() -> dict[str, Any]:
    search = load_search(
        None,
        {"method": "dreml", "ensemble.backbone": "conv4", "image_size": 24, "data.val_classes": 20},
        [],
        "2,4",
        [],
        {},
    )
    launches = {
        method: load(None, {"method": method, "ensemble.backbone": "conv4", "image_size": 24}, assignments)
        for method, assignments in (("dreml", []), ("bier", []), ("baseline", ["loss=triplet"]))
    }
    return {"search": search.document(), **{name: one.document() for name, one in launches.items()}}


@pytest.mark.parametrize("kind", ["search", "dreml", "bier", "baseline"])
def test_a_changed_request_of_a_run_is_read_or_told(kind: str) -> None:
    whole = json.dumps(documents()[kind]).encode()

    @fuzzed(30)
    @given(json_mutations(whole))
    def each(data: bytes) -> None:
        with bounded():
            try:
                saved = json.loads(data)
            except (ValueError, RecursionError):  # told by who reads the file
                return
            if not isinstance(saved, dict):
                return
            try:
                request = job_of(saved.get("kind", "launch")).parse(saved, "run.json")
                assert dataclasses.is_dataclass(request)
                request.identity()
            except MusterError as error:
                assert "run.json" in str(error)  # noqa: PT017

    each()


def test_a_changed_line_of_a_jobs_output_is_an_event_or_none() -> None:
    line = json.dumps({"event": "member", "t": 1.5, "key": "a", "index": 1, "state": "done"}).encode()

    @fuzzed(40)
    @given(st.one_of(json_mutations(line), byte_mutations(line)))
    def each(data: bytes) -> None:
        found = from_line(data.decode(errors="replace").replace('{"event": ', '{"event":', 1))
        assert found is None or isinstance(found["event"], str)

    each()
