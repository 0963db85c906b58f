"""One model's whole life in one process: train what the store lacks, embed what is asked, commit.

It needs a store, a device and nothing else: the fleet runs it in a Ray actor, and it runs as well in a bare
process on a machine without Ray. Several processes may train one model together as a team; the leader alone writes,
embeds and commits.
"""

from __future__ import annotations

import contextlib
import platform
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from muster.workers.embed import embed
from muster.workers.errors import CorruptFileError, UsageError
from muster.workers.forms import form
from muster.workers.methods.registry import method_of
from muster.workers.networks import backbones
from muster.workers.packs.cache import cache_folder
from muster.workers.packs.pack import Pack, Part, open_pack
from muster.workers.provenance import driver, machine, versions
from muster.workers.spec import ModelSpec
from muster.workers.store.checkpoint import (
    Checkpoint,
    newest_whole,
    on_host,
    read_checkpoint,
    save_checkpoint,
)
from muster.workers.store.files import FileRecord
from muster.workers.store.layout import Folder, ModelFolder, Store
from muster.workers.store.parquet import table_bytes
from muster.workers.store.records import Done, to_json
from muster.workers.store.tensors import read_tensors
from muster.workers.store.vectors import read_vectors, write_vectors
from muster.workers.task import Images, MemberTask, missing
from muster.workers.train.loop import Report, train
from muster.workers.train.saving import Saver
from muster.workers.train.team import ALONE, Team
from muster.workers.train.trainer import Materials, arithmetic, prepare_device

Log = Callable[[str], None]


def _forget_damaged(folder: Folder, log: Log) -> None:
    """Removes a commit record that can't be read, so that another can be put in its place."""
    try:
        folder.done()
    except CorruptFileError as error:
        log(str(error))
        folder.distrust()


def run_member(
    store: Store,
    task: MemberTask,
    attempt: str,
    device: torch.device,
    *,
    report: Report = lambda progress: None,
    log: Log = lambda line: None,
    team: Team = ALONE,
    began: float | None = None,
    told_to_end: Callable[[], bool] = lambda: False,
) -> None:
    """Brings everything that the task asks for into the store; a finished part is not done again.

    `began`: when the attempt took its device, by `time.monotonic`; default: now. `told_to_end`: whether the process is
    to save and to end, beside SIGTERM. Raises what `train` and the store raise. A damaged file that it meets is
    forgotten and made again.
    """
    began = time.monotonic() if began is None else began
    prepare_device(task.spec, device)
    folder = store.model(task.key)
    if team.leads:
        _forget_damaged(folder, log)
    weights = None
    if team.agree(missing(store, task)[0]):
        weights = _train(store, folder, task, attempt, device, report, log, team, began, told_to_end)
    if not team.leads or not missing(store, task)[1]:
        return
    report({"state": "embedding"})
    try:
        network = load_network(folder, task.spec, weights)
    except CorruptFileError as error:
        log(f"{error} Training it again.")
        folder.distrust()
        # Alone: the others have gone.
        _train(store, folder, task, attempt, device, report, log, ALONE, time.monotonic(), told_to_end)
        network = load_network(folder, task.spec)
    for target in missing(store, task)[1]:
        vectors_folder = folder.embedding(target.digest)
        _forget_damaged(vectors_folder, log)
        pack, part = open_images(store, target.images)
        started = time.monotonic()
        vectors = embed(network, pack, part, target.view, device, normalize=not task.spec.learners)
        took = time.monotonic() - started
        facts: dict[str, object] = {"key": task.key, "target": target.digest, "split": target.split}
        facts["view"] = form(target.view)
        facts |= {"images": target.images.digest, "seconds": round(took, 3)}
        facts["images_per_s"] = round(len(vectors) / took, 1)
        write_vectors(vectors_folder, vectors, facts)
        log(f"embedded {len(vectors)} images of {target.split}")


def open_images(store: Store, images: Images) -> tuple[Pack, Part]:
    """A pack and the part of it that is meant. Raises CorruptFileError if it holds other images."""
    pack = open_pack(store.pack(images.pack), images.pack, cache_folder())
    part = pack.index.part(images.class_ids)
    if part.digest != images.digest:
        raise CorruptFileError(f"The pack {images.pack} does not hold the images that were planned with.")
    return pack, part


def load_network(
    folder: ModelFolder, spec: ModelSpec, weights: Mapping[str, torch.Tensor] | None = None
) -> torch.nn.Module:
    """A finished member's network on the CPU, with these weights, or else those that the store has. Raises
    CorruptFileError if they are damaged."""
    if weights is not None:
        network = method_of(spec).training.network(spec)
        network.load_state_dict(weights)
        return network
    done = folder.done()
    if done is None:
        raise UsageError(f"{folder.files.path(folder.name)} holds no finished model.")
    name = f"attempts/{done.facts['attempt']}/weights.safetensors"
    where = folder.files.path(folder / name)
    weights = read_tensors(folder.get(name, done), where)
    network = method_of(spec).training.network(spec)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise CorruptFileError(f"{where} is damaged: it holds another network's weights.") from error
    return network


def _train(
    store: Store,
    folder: ModelFolder,
    task: MemberTask,
    attempt: str,
    device: torch.device,
    report: Report,
    log: Log,
    team: Team,
    began: float,
    told_to_end: Callable[[], bool],
) -> dict[str, torch.Tensor] | None:
    """Trains a model and commits it. Its weights, where they are those that the store has now."""
    spec = task.spec
    written = to_json({"key": spec.key, **form(spec)})
    if team.leads and folder.files.find(folder / "spec.json") != written:
        folder.files.put(folder / "spec.json", written)
    initial = None if spec.weights == "none" else _initial_weights(store, spec)
    method = method_of(spec)
    if method.untrained:
        weights = method.training.network(spec, initial).state_dict()
        first = _commit(
            folder, attempt, {"weights.safetensors": save(weights)}, {"seconds": 0.0, "epochs": 0}, device
        )
        log(f"kept {spec.described()}{LATE[first]}")
        return None
    pack, part = open_images(store, task.train)
    resume = _resume(folder, team)
    inputs = _inputs(store, spec, len(part.rows))
    materials = Materials(pack, part, device, team, initial, inputs, task.input, log)
    trainer = method.training.trainer(spec, materials)
    where = f"{_device_name(device)} of {socket.gethostname()}"
    if team.size > 1:
        where += f", {team.size} ranks"
    log(f"member {spec.index}, key {spec.key}, attempt {attempt}, on {where}")
    log(f"{len(part.rows)} images, {spec.classes} {spec.described()}, {spec.backbone}, {spec.precision}")
    if resume is not None:
        log(f"resumed after {_place(trainer.unit, resume)}")

    saver = Saver(lambda checkpoint: save_checkpoint(folder, attempt, checkpoint))

    def saved(checkpoint: Checkpoint) -> None:
        saver(checkpoint)
        if checkpoint.stretch.steps:
            log(f"saved after {_place(trainer.unit, checkpoint)}")
        else:
            log(_stretch(trainer.unit, checkpoint.history[-1]))

    with arithmetic(spec, device), heeding_sigterm() as sigterm, saver:
        state = train(
            trainer, resume=resume, save=saved, report=report, told_to_end=lambda: sigterm() or told_to_end()
        )
    if not team.leads:
        return None
    rows, before = state.history, len(resume.history) if resume else 0
    shown = sum(map(trainer.images, range(trainer.units * trainer.steps)))
    weights = on_host(dict(trainer.kept(state)))
    files = {"weights.safetensors": save(weights), "history.parquet": table_bytes(rows)}
    done_before = resume.stretch.seconds if resume else 0.0
    overhead = time.monotonic() - began - (sum(row["seconds"] for row in rows[before:]) - done_before)
    facts = {
        "resumed_after_epoch": resume.epoch if resume else 0,
        "seconds": round(sum(row["seconds"] for row in rows), 3),
        "overhead_seconds": round(overhead, 3),
        "loss": rows[-1]["loss"],
        "images": shown // spec.epochs,
        "epochs": spec.epochs,
        "ranks": team.size,
    }
    first = _commit(folder, attempt, files, facts, device)
    log(f"finished{LATE[first]}")
    folder.sweep()
    return weights if first else None


#: What follows in the log, by whether an attempt was the first to commit.
LATE = {True: "", False: ", after another attempt: its result stands"}


def _commit(
    folder: ModelFolder, attempt: str, files: dict[str, bytes], facts: dict[str, Any], device: torch.device
) -> bool:
    """Puts a model's files and then its record; whether no other attempt was first."""
    for name, data in files.items():
        folder.files.put(f"{folder.attempt(attempt)}/{name}", data)
    records = {f"attempts/{attempt}/{name}": FileRecord.of(data) for name, data in files.items()}
    made = {"key": folder.key, "attempt": attempt, **facts, **environment(device)}
    return folder.commit(Done(records, made))


def _resume(folder: ModelFolder, team: Team) -> Checkpoint | None:
    """The checkpoint to go on from, the same on every rank of a team."""
    found = newest_whole(folder) if team.leads else None
    name = team.agree(found[0] if found else None)
    if name is None:
        return None
    return found[1] if found else read_checkpoint(folder, name)


@contextlib.contextmanager
def heeding_sigterm() -> Iterator[Callable[[], bool]]:
    """Within it SIGTERM ends nothing: the answer is whether it came. A batch system, or a cloud that takes its machine
    back, sends it some time before the end. Threads other than the first can't heed signals."""
    told = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield told.is_set
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: told.set())
    try:
        yield told.is_set
    finally:
        signal.signal(signal.SIGTERM, before)


def _place(unit: str, state: Checkpoint) -> str:
    """How far a checkpoint is, as in "epoch 3, step 12 of the next"."""
    return f"{unit} {state.epoch}" + (
        f", step {state.stretch.steps} of the next" if state.stretch.steps else ""
    )


def _stretch(unit: str, row: dict[str, Any]) -> str:
    """A row of history as a line of the log."""
    accuracy = f"accuracy {row['accuracy']:.3f}, " if "accuracy" in row else ""
    return f"{unit} {row[unit]}: loss {row['loss']:.4f}, {accuracy}{row['images_per_s']:.0f} images/s"


def _inputs(store: Store, spec: ModelSpec, images: int) -> list[np.ndarray]:
    """The vectors that the model is trained from, float32 [images, dimension] each.

    Raises CorruptFileError if some are damaged or gone: they are forgotten, and made again for the next attempt.
    """
    found = []
    for key, digest in spec.inputs:
        folder = store.model(key).embedding(digest)
        try:
            vectors = read_vectors(folder)
        except CorruptFileError:
            folder.distrust()
            raise
        if len(vectors) != images:
            raise UsageError(f"The vectors of {key} are of {len(vectors)} images, and it trains on {images}.")
        found.append(vectors)
    return found


def _initial_weights(store: Store, spec: ModelSpec) -> dict[str, torch.Tensor]:
    """The pretrained weights. Raises CorruptFileError if they are gone, or damaged: then they are forgotten, and the
    next launch puts them anew."""
    name = store.weights(spec.weights)
    data, state = store.files.find(name), {}
    if data is not None:
        with contextlib.suppress(CorruptFileError):
            state = read_tensors(data, store.files.path(name))
    if backbones.state_digest(state) != spec.weights:
        store.files.delete(name)
        raise CorruptFileError(
            f"The initial weights {store.files.path(name)} are gone or damaged: launch again to put them anew."
        )
    return state


def environment(device: torch.device) -> dict[str, Any]:
    """Where it ran: recorded with a result, and no part of its key."""
    found = {"device": _device_name(device), "threads": torch.get_num_threads(), **machine()}
    gpu = {"cuda": str(torch.version.cuda), "driver": driver()} if device.type == "cuda" else {}
    return {**found, "versions": {**versions(), **gpu}}


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({platform.machine()})"
