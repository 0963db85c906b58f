"""Pickles with code in them, in every kind of file that muster reads: none is run.

A mark would be left by whatever unpickles one. Each reader is also asked of its source, so that a new one that could
unpickle is noticed.
"""

from __future__ import annotations

import ast
import contextlib
import io
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from muster.workers.datasets import open_data_set
from muster.workers.datasets.pictures import BadPictureError, read_picture
from muster.workers.errors import CorruptFileError, UsageError
from muster.workers.networks.backbones import read_state
from muster.workers.store.checkpoint import Checkpoint
from muster.workers.store.parquet import read_table
from muster.workers.store.records import Done, parse_json
from muster.workers.store.tensors import read_tensors
from tests.workers.datasets import copies

ROOT = Path(__file__).parents[1]


class Marking:
    """Makes a file where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    """Where the mark would be; asserted not to be there when the test is over. A plain `pickle.loads` makes it."""
    mark = tmp_path / "mark"
    pickle.loads(pickle.dumps(Marking(mark)))
    mark.unlink()
    yield mark
    assert not mark.exists(), "a planted pickle was run"


def as_torch(mark: Path, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save({"a": Marking(mark)}, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def as_numpy(mark: Path, archive: bool = False) -> bytes:
    buffer, array = io.BytesIO(), np.array([Marking(mark)], dtype=object)
    np.savez(buffer, array) if archive else np.save(buffer, array)
    return buffer.getvalue()


def as_torchscript(mark: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x/constants.pkl", pickle.dumps(Marking(mark)))
        archive.writestr("x/data.pkl", pickle.dumps(Marking(mark)))
        archive.writestr("x/version", "3\n")
        archive.writestr("x/code/x.py", "")
    return buffer.getvalue()


def as_parquet(mark: Path, name: str = "arrow.py_extension_type") -> bytes:
    """With a type of the user's own, which Arrow once unpickled, and pandas' metadata."""
    pickled = pickle.dumps(Marking(mark))
    field = pa.field(
        "vector", pa.int64(),
        metadata={"ARROW:extension:name": name, "ARROW:extension:metadata": pickled},
    )  # fmt: skip
    schema = pa.schema([field], metadata={"pandas": pickled, "huggingface": pickled, "muster": pickled})
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_arrays([pa.array([1, 2])], schema=schema), buffer)
    return buffer.getvalue()


PICKLES: dict[str, Callable[[Path], bytes]] = {
    "pickle": lambda mark: pickle.dumps(Marking(mark)),
    "old pickle": lambda mark: pickle.dumps(Marking(mark), protocol=0),
    "torch": as_torch,
    "old torch": lambda mark: as_torch(mark, legacy=True),
    "torchscript": as_torchscript,
    "npy": as_numpy,
    "npz": lambda mark: as_numpy(mark, archive=True),
    "parquet": as_parquet,
}


@pytest.mark.parametrize("kind", PICKLES)
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors", ".npz", ".caffemodel", ".pkl"])
def test_no_weights_file_runs_code(mark: Path, tmp_path: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(PICKLES[kind](mark))
    with pytest.raises(UsageError, match=f"--weights .*{suffix}: not a safetensors file"):
        read_state(path)


@pytest.mark.parametrize("kind", PICKLES)
def test_no_file_of_a_store_runs_code(mark: Path, kind: str) -> None:
    data = PICKLES[kind](mark)
    for read in (lambda: read_tensors(data, "it"), lambda: Checkpoint.from_bytes(data)):
        with pytest.raises(CorruptFileError):
            read()
    for parse in (lambda: parse_json(data), lambda: Done.from_json(data)):
        with pytest.raises(ValueError, match=r"utf|codec|Expecting|decode"):
            parse()
    if kind == "parquet":
        assert read_table(data, "it").num_rows == 2
    else:
        with pytest.raises(CorruptFileError):
            read_table(data, "it")


@pytest.mark.parametrize("kind", PICKLES)
def test_no_image_runs_code(mark: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "image.jpg").write_bytes(PICKLES[kind](mark))
    with pytest.raises(BadPictureError):
        read_picture(tmp_path / "image.jpg")


@pytest.mark.parametrize("kind", PICKLES)
@pytest.mark.parametrize("name", ["cub200", "sop", "inshop", "vehicleid", "cars196", "parquet"])
def test_no_file_of_a_data_set_runs_code(mark: Path, tmp_path: Path, name: str, kind: str) -> None:
    made = copies.cars_parquet if name == "parquet" else copies.COPIES[name]
    root = made(tmp_path / "copy")
    for path in [path for path in root.rglob("*") if path.suffix in {".txt", ".csv", ".mat", ".parquet"}]:
        kept = path.read_bytes()
        path.write_bytes(PICKLES[kind](mark))
        with contextlib.suppress(UsageError):  # of a list that is not used, nothing is said
            open_data_set("cars196" if name == "parquet" else name, str(root), allow_counts=True).splits()
        path.write_bytes(kept)


#: Calls that can unpickle, and where they may stand, with why they can't there.
UNPICKLING = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
ALLOWED = {
    # weights_only=True: tensors alone.
    ("workers/networks/backbones.py", "torch.load"): "weights_only",
    # Written by the same call a line above, in a temporary folder of its own; allow_pickle is off by default.
    ("orchestrator/vectors/evaluate.py", "np.load"): "mmap_mode",
}


def test_nothing_else_could_unpickle() -> None:
    found = {}
    for folder in ("workers", "orchestrator", "cluster", "src/muster"):
        for path in sorted((ROOT / folder).glob("**/*.py")):
            name = path.relative_to(ROOT).as_posix()
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    modules = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                    assert not UNPICKLING & {module.partition(".")[0] for module in modules}, name
                if isinstance(node, ast.Call):
                    call = ast.unparse(node.func)
                    assert "object" not in call.rpartition(".")[2] or "dist" not in call, (
                        f"{name}: {call} unpickles"
                    )
                    assert all(word.arg != "allow_pickle" for word in node.keywords), name
                    if call in {
                        "torch.load",
                        "torch.jit.load",
                        "np.load",
                        "numpy.load",
                        "pd.read_pickle",
                        "eval",
                        "exec",
                    }:
                        found[name, call] = {word.arg: word.value for word in node.keywords}
    assert found.keys() == ALLOWED.keys()
    assert all(ALLOWED[place] in words for place, words in found.items())
    assert ast.unparse(found["workers/networks/backbones.py", "torch.load"]["weights_only"]) == "True"
