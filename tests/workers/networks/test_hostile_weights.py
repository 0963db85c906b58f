"""Weights files that lie about what they hold: a message, and no more memory than the file is worth."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from muster.workers.errors import CorruptFileError, MusterError, UsageError
from muster.workers.networks.backbones import build, read_state, state_digest
from muster.workers.store.checkpoint import Checkpoint
from muster.workers.store.tensors import read_tensors
from tests.fuzzing import bounded, byte_mutations, fuzzed


def safetensors(entries: dict[str, Any], data: bytes = b"\0" * 64, length: int | None = None) -> bytes:
    header = json.dumps(entries).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(shape: list[Any], start: Any = 0, end: Any = 64, kind: str = "F32") -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": [start, end]}


LIES = {
    "a header of 8 EiB": safetensors({}, length=2**63),
    "a header longer than the file": safetensors({"a": entry([16])}, length=10_000),
    "an empty header": safetensors({}, length=0),
    "a tensor of 4 TB": safetensors({"a": entry([2**40])}),
    "sizes that overflow": safetensors({"a": entry([2**32, 2**32])}),
    "a negative side": safetensors({"a": entry([-16])}),
    "a side that is no number": safetensors({"a": entry(["16"])}),
    "an end before its start": safetensors({"a": entry([16], 64, 0)}),
    "an end beyond the file": safetensors({"a": entry([2**20], 0, 2**22)}),
    "tensors that overlap": safetensors({"a": entry([16]), "b": entry([8], 32, 64)}),
    "a hole": safetensors({"a": entry([4], 0, 16), "b": entry([4], 48, 64)}),
    "bytes that nobody owns": safetensors({"a": entry([4], 0, 16)}),
    "an unknown type": safetensors({"a": entry([16], kind="F7")}),
    "a type for its shape": safetensors({"a": entry([16], kind="F64")}),
    "metadata that are no text": safetensors({"a": entry([16]), "__metadata__": {"state": 7}}),
    "a cut": safetensors({"a": entry([16])})[:-1],
    "a deep header": struct.pack("<Q", 100_000) + b"[" * 100_000,
}


@pytest.mark.parametrize("lie", LIES)
def test_a_safetensors_header_that_lies_is_refused_within_bounds(lie: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(LIES[lie])
    with bounded(1 << 30):
        with pytest.raises(UsageError, match=r"--weights .*weights\.safetensors: not a safetensors file"):
            read_state(path)
        with pytest.raises(CorruptFileError, match="weights is damaged"):
            read_tensors(LIES[lie], "weights")
        with pytest.raises(CorruptFileError, match="weights is damaged"):
            Checkpoint.from_bytes(LIES[lie], "weights")


@pytest.mark.parametrize(
    "state",
    [
        None,
        {},
        {"epoch": "x", "history": []},
        {"epoch": 1, "history": [7]},
        {"epoch": 1},
        {"epoch": -1, "history": []},
    ],
)
def test_a_whole_file_that_is_no_checkpoint_is_told(state: Any) -> None:
    metadata = None if state is None else {"state": json.dumps(state)}
    with pytest.raises(CorruptFileError, match="it is no checkpoint"):
        Checkpoint.from_bytes(save({"model/a": torch.zeros(2)}, metadata))
    whole = json.dumps({"epoch": 1, "history": []})
    with pytest.raises(CorruptFileError, match="it is no checkpoint"):
        Checkpoint.from_bytes(save({"another/a": torch.zeros(2)}, {"state": whole}))


def stored(state: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer, **options)
    return buffer.getvalue()


def packed(data: bytes) -> bytes:
    """The same archive with its entries packed: zeros by the gigabyte fit into a file of megabytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return buffer.getvalue()


BOMBS = {
    "a value repeated without end": stored({"a": torch.zeros(1).expand(2**36)}),
    "one memory shared by thousands": stored(dict.fromkeys(map(str, range(2000)), torch.ones(2**18))),
    "a packed archive": packed(stored({"a": torch.zeros(2**24)})),
    "a sparse tensor": stored({"a": torch.sparse_coo_tensor([[0], [0]], [1.0], (2**30, 2**30))}),
    "a tensor without values": stored({"a": torch.empty(2**40, device="meta")}),
    "complex numbers": stored({"a": torch.zeros(3, dtype=torch.complex64)}),
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_weights_that_are_more_than_their_file_are_refused(bomb: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(BOMBS[bomb])
    with bounded(1 << 30), pytest.raises(UsageError, match=r"--weights .*weights\.pth: "):
        read_state(path)


def test_views_of_one_memory_are_read_as_before(tmp_path: Path) -> None:
    shared = torch.arange(2.0**18)
    path = tmp_path / "weights.pth"
    path.write_bytes(stored({"a": shared, "b": shared, "c": shared.view(512, 512).T}))
    read = read_state(path)
    assert torch.equal(read["c"], shared.view(512, 512).T)
    assert torch.equal(read["a"], read["b"])


STATE = {"0.0.weight": torch.ones(4, 3, 3, 3), "6.bias": torch.zeros(5)}


@pytest.mark.parametrize("kind", ["safetensors", "pth", "old.pth"])
def test_changed_weights_files_get_a_message_or_are_read(kind: str, tmp_path: Path) -> None:
    whole = {
        "safetensors": save(STATE, {"format": "pt"}),
        "pth": stored(STATE),
        "old.pth": stored(STATE, _use_new_zipfile_serialization=False),
    }
    path = tmp_path / f"weights.{kind}"

    @fuzzed(20)
    @given(st.one_of(byte_mutations(whole[kind])))
    def each(data: bytes) -> None:
        path.write_bytes(data)
        with bounded():
            try:
                state = read_state(path)
                state_digest(state)
                build("conv4", 5, 0, state)
            except MusterError as error:
                assert "--weights" in str(error)  # noqa: PT017

    each()
