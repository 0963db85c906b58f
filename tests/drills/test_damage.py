"""Each kind of file of a finished run is damaged: whatever command needs it repairs it or names it, and no number that
any command gives is another than before."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from muster.workers.errors import DamagedRunError
from muster.workers.networks import backbones
from muster.workers.store.layout import Store
from tests.cli import Ran
from tests.drills.conftest import Struck
from tests.drills.damage import HOW, damage
from tests.drills.test_kills import weights
from tests.orchestrator.bare import BareMuster, bare_muster

__all__ = ["bare_muster"]

#: What is damaged, by where it lies; `one` and `two` are runs, the second with initial weights. Of several files that
#: fit, the first.
KINDS = {
    "request": "runs/one/run.json",
    "plan": "runs/one/plan.json",
    "settled": "runs/one/settled.json",
    "queries": "runs/one/queries.parquet",
    "answer": "runs/one/answer.json",
    "metrics": "runs/one/metrics.json",
    "curves": "runs/one/curves.parquet",
    "report": "runs/one/report.html",
    "plot": "runs/one/plots/curve.png",
    "drawing": "runs/one/plots/curve.svg",
    "record of the run": "runs/one/DONE.json",
    "events": "runs/one/events/*.jsonl",
    "log": "runs/one/logs/*.log",
    "shard": "runs/one/gathered/test/part-00000.parquet",
    "manifest": "runs/one/gathered/test.json",
    "shard of train": "runs/one/gathered/train/part-00000.parquet",
    "record of a member": "models/{member}/DONE.json",
    "spec": "models/{member}/spec.json",
    "weights": "models/{member}/attempts/*/weights.safetensors",
    "history": "models/{member}/attempts/*/history.parquet",
    "vectors": "models/{member}/embeddings/*/vectors.parquet",
    "record of vectors": "models/{member}/embeddings/*/DONE.json",
    "index of a pack": "packs/*/index.parquet",
    "pixels of a pack": "packs/*/pixels.bin",
    "pictures of a pack": "packs/*/pictures.parquet",
    "record of a pack": "packs/*/DONE.json",
    "source of a pack": "packs/sources/*.json",
    "initial weights": "weights/*.safetensors",
}
#: Of what a command tells, what is another each time.
VOLATILE = {
    "seconds", "heard", "device_seconds", "models", "message", "stage", "plan", "gathered_train", "images_per_s",
    "attempt",
}  # fmt: skip


@dataclass
class Finished:
    """A finished store, the commands that are tried on copies of it, and what they say of it undamaged."""

    root: Path
    launches: dict[str, list[object]]
    said: dict[str, Any]

    def files(self, pattern: str, store: Path) -> list[Path]:
        plan = json.loads((self.root / "runs/one/plan.json").read_text())
        found = sorted(store.glob(pattern.format(member=plan["members"][0])))
        assert found, pattern
        return found


COMMANDS = {
    "status": ["status", "one", "--json"],
    "runs": ["runs", "--json"],
    "logs": ["logs", "one", "--json"],
    "evaluate": ["evaluate", "one", "--no-nmi", "--json"],
    "launch": [],
    "gather": ["gather", "one", "--json"],
    "gather train": ["gather", "one", "--split", "train", "--json"],
    "resume": ["resume", "one", "--json"],
    "second": [],
}


def words(finished: Finished, name: str, store: Path) -> list[object]:
    return [*(finished.launches.get(name) or COMMANDS[name]), "--storage", store]


def plain(text: str, store: Path) -> Any:
    """A command's document without what is another each time."""

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: kept(item) for name, item in value.items() if name not in VOLATILE}
        if isinstance(value, list):
            return [kept(item) for item in value]
        return "done" if value == "reused" else value

    return kept(json.loads(text.replace(str(store), "STORE")))


@pytest.fixture(scope="module")
def images(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 classes of 4 images: a command on a damaged store is to take no time."""
    root = tmp_path_factory.mktemp("few") / "shapes"
    for folder in sorted(shapes.iterdir())[:8]:
        (root / folder.name).mkdir(parents=True)
        for file in sorted(folder.iterdir())[:4]:
            shutil.copy(file, root / folder.name)
    return root


@pytest.fixture(scope="module")
def finished(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Two runs that were launched and gathered, and what each command says of them."""
    root = tmp_path_factory.mktemp("finished") / "store"
    state = tmp_path_factory.mktemp("weights") / "initial.pt"
    torch.save(backbones.build("conv4", 4, 7, None).state_dict(), state)
    launch = [
        "launch", "dreml", "--dataset", "folder", "--data-root", images, "--image-size", 24, "--backbone", "conv4",
        "--D", 3, "--epochs", 1, "--set", "batch_size=8", "--set", "lr=0.02", "--json",
    ]  # fmt: skip
    launches = {
        "launch": [*launch, "--L", 2, "--name", "one"],
        "second": [*launch, "--L", 1, "--name", "two", "--weights", state],
    }
    found = Finished(root, launches, {})
    with pytest.MonkeyPatch.context() as patch:
        muster = bare_muster.__wrapped__(patch)  # type: ignore[attr-defined]
        for name in ("launch", "second", "gather train"):
            muster(*words(found, name, root))
        copy = root.parent / "copy"
        shutil.copytree(root, copy)
        for name in COMMANDS:
            found.said[name] = plain(muster(*words(found, name, copy)).out, copy)
    return found


def trouble(ran: Ran, finished: Finished, name: str, store: Path, files: list[Path]) -> str:
    """What is wrong with what a command gave, which must be what it gave before, or say which file is damaged."""
    if ran.code == 0:
        fine = whole(plain(ran.out, store), finished.said[name])
    else:
        told = [*(str(file.relative_to(store)) for file in files), "The packed images of one are not in"]
        fine = ran.code in (1, 2, 3) and any(text in ran.err for text in told)
    return "" if fine else f"{name}: {ran.code}\n{ran.out}\n{ran.err}"


def whole(found: Any, before: Any) -> bool:
    """Whether a document says what was said before, but for what says itself that it is lost or damaged."""
    if isinstance(found, dict):
        state = str(found.get("state"))
        if state in {"lost", "damaged"} or (state.startswith("partial") and before.get("state") == "done"):
            return True
        lost = any(row.get("state") == "lost" for row in found.get("members", ()) if isinstance(row, dict))
        return found.keys() == before.keys() and all(
            whole(found[name], before[name]) for name in found if not (lost and name == "done")
        )
    if isinstance(found, list):
        if len(found) == 1 and isinstance(found[0], str):  # of a log
            return found == before or " is damaged: " in found[0]
        return len(found) == len(before) and all(map(whole, found, before))
    return bool(found == before)


def mended(finished: Finished, muster: BareMuster, store: Path) -> list[str]:
    """Has the store mended as its messages say; what is wrong after that."""
    found = Store(str(store)).run("one")
    try:
        if found.read("run.json") is None:
            return ["run.json is gone"]
    except DamagedRunError as error:  # a whole copy, or its record deleted, as the message says
        if "Put a whole copy back" in str(error):
            shutil.copy(finished.root / "runs/one/run.json", store / "runs/one/run.json")
        elif "DONE.json is damaged" in str(error) and "Delete it" in str(error):
            (store / "runs/one/DONE.json").unlink()
    troubles = []
    for name in ("resume", "gather train", "second", "evaluate", "status"):
        ran = muster(*words(finished, name, store))
        if not whole(plain(ran.out, store), finished.said[name]):
            troubles.append(f"at the end {name}: {ran.out}\n{ran.err}")
    for run in (found, Store(str(store)).run("two")):
        if not (record := run.record()) or (spoilt := run.spoilt(record)):
            troubles.append(f"still damaged: {spoilt}")
    if weights(store) != weights(finished.root):
        troubles.append("weights differ")
    for split in ("test", "train"):
        name = f"runs/one/gathered/{split}/part-00000.parquet"
        if not pq.read_table(store / name).equals(pq.read_table(finished.root / name)):
            troubles.append(f"{name} differs")
    return troubles


def drilled(
    finished: Finished, muster: BareMuster, store: Path, files: list[Path], how: str, seed: int
) -> None:
    for file in files:
        damage(file, how, seed)
    troubles = []
    for name in COMMANDS:
        ran = muster(*words(finished, name, store), code=None)
        troubles.append(trouble(ran, finished, name, store, files))
    troubles += mended(finished, muster, store)
    assert not any(troubles), "\n".join(filter(None, troubles))


@pytest.fixture
def store(finished: Finished, tmp_path: Path) -> Path:
    """A copy of the finished store, to be damaged."""
    return Path(shutil.copytree(finished.root, tmp_path / "store"))


@pytest.mark.drill("d: every kind of file damaged at once")
@pytest.mark.parametrize(
    "how", ["flipped", *(pytest.param(how, marks=pytest.mark.long) for how in HOW if how != "flipped")]
)
def test_all_files_at_once(
    finished: Finished, bare_muster: BareMuster, store: Path, how: str, struck: Struck, request: Any
) -> None:
    """But for the two that stop every command: they have tests of their own."""
    seed = request.node.callspec.params.get("again", 0)
    patterns = [KINDS[kind] for kind in KINDS if kind not in {"request", "record of the run"}]
    files = [finished.files(one, store)[0] for one in patterns]
    struck.faults = len(files)
    drilled(finished, bare_muster, store, files, how, seed)
    struck.count(store, asked=3)


@pytest.mark.long
@pytest.mark.drill("d: each kind of file damaged alone", times=3)
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_alone(
    finished: Finished,
    bare_muster: BareMuster,
    store: Path,
    kind: str,
    how: str,
    struck: Struck,
    request: Any,
) -> None:
    """All of them are one pass, which takes minutes."""
    seed = request.node.callspec.params.get("again", 0)
    struck.faults = 1
    file = finished.files(KINDS[kind], store)[0]
    if kind == "weights":  # or nothing would need them: its vectors are there
        shutil.rmtree(file.parents[2] / "embeddings")
    drilled(finished, bare_muster, store, [file], how, seed)
    struck.count(store, asked=3)
