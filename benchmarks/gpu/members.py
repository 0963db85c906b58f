"""5 to 8, 10 and 11: a member from its process to its vectors, several on one device, out of memory, and twice the
same bits."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from gpu import common
from gpu.common import Bench, Found, UnmeasuredError, child, noise, recipe, spec, told, trainer
from muster.workers.member import run_member
from muster.workers.networks import backbones
from muster.workers.packs.pack import Pack
from muster.workers.store.checkpoint import Checkpoint, on_host, save_checkpoint, snapshot
from muster.workers.store.files import FileRecord
from muster.workers.store.layout import Store
from muster.workers.store.parquet import table_bytes
from muster.workers.store.records import Done
from muster.workers.task import Images, MemberTask, Target
from muster.workers.train.loop import train
from muster.workers.train.prefetch import Buffer

COLD = """
import json, sys, time
marks = [("start", time.perf_counter())]
import torch
import muster.workers.member
marks.append(("imports", time.perf_counter()))
device = torch.device(sys.argv[1])
torch.zeros(1, device=device).sum().item()
marks.append(("context", time.perf_counter()))
sys.path.insert(0, "benchmarks")
from gpu.common import Bench
from gpu.steps import Step
bench = Bench(device, sys.argv[2] == "small")
torch.backends.cudnn.benchmark = False
step = Step(bench, "resnet18"); step(); bench.sync()
marks.append(("first step", time.perf_counter()))
torch.backends.cudnn.benchmark = True
step(); bench.sync()
marks.append(("autotuning", time.perf_counter()))
step = Step(bench, "resnet18"); step(); bench.sync()
marks.append(("a second member", time.perf_counter()))
print(json.dumps({name: round(at - before, 3) for (_, before), (name, at) in zip(marks, marks[1:])}))
"""

AT_WORK = """
import json, sys, time
sys.path.insert(0, "benchmarks")
import torch
from gpu.common import Bench
from gpu.steps import Step
bench = Bench(torch.device(sys.argv[1]), sys.argv[2] == "small")
torch.backends.cudnn.benchmark = bench.on_gpu
if float(sys.argv[5]) < 1:
    torch.cuda.set_per_process_memory_fraction(float(sys.argv[5]))
step = Step(bench, "resnet18")
for _ in range(3): step()
bench.sync()
print("ready", flush=True)
while time.time() < float(sys.argv[3]): time.sleep(0.001)
done, started = 0, time.perf_counter()
while time.perf_counter() - started < float(sys.argv[4]):
    step(); bench.sync(); done += 1
took = time.perf_counter() - started
peak = torch.cuda.max_memory_allocated() / 1e9 if bench.on_gpu else 0
print(json.dumps({"per_s": done * bench.batch / took, "peak_gb": round(peak, 2)}))
"""

GREEDY = """
import torch
torch.cuda.set_per_process_memory_fraction(0.25)
kept = []
try:
    while True: kept.append(torch.empty(1 << 28, dtype=torch.uint8, device="cuda").fill_(1))
except torch.OutOfMemoryError:
    print('{"gb": %.1f}' % (len(kept) / 4))
"""


def words(bench: Bench) -> list[str]:
    return [str(bench.device), "small" if bench.small else "full"]


def cold_start(bench: Bench) -> Found:
    """5. Seconds from a process's start to its first step, in parts; and a second member in the same process."""
    found: list[Found] = []
    for _ in range(min(2, bench.repeats)):  # of each ten seconds or so
        started = time.perf_counter()
        with child(COLD, *words(bench)) as process:
            parts = told(process)
        whole = time.perf_counter() - started
        found.append({**parts, "process": round(whole - sum(parts.values()), 3)})
    return {name: sorted(one[name] for one in found)[len(found) // 2] for name in found[0]}


def checkpoints(bench: Bench) -> Found:
    """6. Milliseconds that an epoch waits for its checkpoint, and what is done of it behind the training, in parts."""
    pack = bench.pack(bench.size(512, 32), bench.side, 8)
    member = trainer(bench, pack)
    member.step(0, member.batch(0, Buffer(bench.device)))
    bench.sync()
    with tempfile.TemporaryDirectory() as folder:
        model = Store(folder).model("0" * 32)
        found: dict[str, list[float]] = {}
        for _ in range(bench.repeats + 1):
            parts, behind = dict[str, float](), dict[str, float]()
            parts["copy"] = bench.seconds(lambda: snapshot(member.module.state_dict()))
            weights = snapshot(member.module.state_dict())
            parts["finite"] = bench.seconds(
                lambda weights=weights: bool(
                    torch.stack([one.isfinite().all() for one in weights.values()]).all()
                )
            )
            parts["copy of the optimiser"] = bench.seconds(lambda: _optimizer(member))
            state = Checkpoint(1, weights, _optimizer(member))
            behind["to the host"] = bench.seconds(lambda weights=weights: on_host(weights))
            behind["serialise, hash and write"] = bench.seconds(
                lambda state=state: save_checkpoint(model, "one", state)
            )
            parts["stall"] = sum(parts.values())
            for name, took in (parts | behind).items():
                found.setdefault(name, []).append(1000 * took)
    middle = {name: round(sorted(values[1:])[len(values) // 2 - 1], 2) for name, values in found.items()}
    return {**middle, "stall_ms": middle["stall"]}


def _optimizer(member: Any) -> dict[str, torch.Tensor]:
    from muster.workers.store.checkpoint import flat_optimizer

    return flat_optimizer(member.optimizer)


def stored(store: Store, pack: Pack, digest: str) -> None:
    """Puts a pack into a store, without decoding anything."""
    folder = store.pack(digest)
    index = table_bytes(pack.index.table, compression="zstd")
    pixels = pack.pixels.tobytes()
    folder.files.put(folder / "index.parquet", index)
    folder.files.put(folder / "pixels.bin", pixels)
    files = {"index.parquet": FileRecord.of(index), "pixels.bin": FileRecord.of(pixels)}
    facts = {
        "pack": digest, "split": pack.index.split, "resize": pack.index.resize, "images": len(pack.index),
        "class_names": pack.index.class_names, "bad_images": [],
    }  # fmt: skip
    folder.commit(Done(files, facts))


def whole_member(bench: Bench) -> Found:
    """7. A member of CUB's size from its task to its vectors: seconds, and how busy the device is."""
    images, classes = bench.size(5864, 48), bench.size(100, 6)
    pack = noise(images, bench.side, classes)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(str(Path(folder) / "store"))
        os.environ["MUSTER_CACHE"] = str(Path(folder) / "cache")
        stored(store, pack, "0" * 32)
        part = pack.index.part()
        view = common.view(bench.side)
        of = Images(pack="0" * 32, class_ids=tuple(range(classes)), digest=part.digest)
        took: list[float] = []
        with utilisation(bench) as busy:
            for index in range(1, bench.size(3, 2) + 1):  # the first warms the cache of the disk
                asked = spec(bench, part, index=index, recipe=recipe(bench, epochs=bench.size(12, 1)))
                task = MemberTask(spec=asked, train=of, targets=(Target(split="test", images=of, view=view),))
                busy.clear()
                took.append(bench.seconds(lambda task=task: run_member(store, task, "one", bench.device)))
        done = store.model(task.key).done()
        assert done is not None
    facts = {name: done.facts[name] for name in ("seconds", "overhead_seconds")}
    return {"first": round(took[0], 2), "seconds": round(took[-1], 2), **facts, "busy": _mean(busy)}


def _mean(values: list[float]) -> float | None:
    return round(sum(values) / len(values), 1) if values else None


@contextlib.contextmanager
def utilisation(bench: Bench) -> Iterator[list[float]]:
    """How busy the GPU is in per cent, five times a second, by NVIDIA's own tool; empty without one."""
    found: list[float] = []
    if not bench.on_gpu:
        yield found
        return
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200"]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
    try:
        process = subprocess.Popen([*command, "-i", visible], stdout=subprocess.PIPE, text=True)
    except OSError:  # no such tool here
        yield found
        return
    with process:

        def listen() -> None:
            for line in process.stdout or ():
                with contextlib.suppress(ValueError):
                    found.append(float(line))

        threading.Thread(target=listen, daemon=True).start()
        try:
            yield found
        finally:
            process.kill()


def together(bench: Bench) -> Found:
    """8. 1, 2 and 4 processes on one device: images a second of all; on a GPU also with MPS, where it may run."""
    found: Found = {
        f"{count} processes": _together(bench, count) for count in ((1, 2) if bench.small else (1, 2, 4))
    }
    if bench.on_gpu:
        with mps() as environment:
            try:
                found["2 processes, MPS"] = (
                    _together(bench, 2, environment) if environment else "MPS may not run here"
                )
            except UnmeasuredError as error:
                found["2 processes, MPS"] = f"MPS runs, and its clients do not: {error}"
    return found


def _together(bench: Bench, count: int, environment: dict[str, str] | None = None) -> Found:
    seconds, begin = bench.size(5, 1), time.time() + bench.size(20, 8)
    with contextlib.ExitStack() as stack:
        if environment:
            stack.enter_context(_environment(environment))
        processes = [
            stack.enter_context(child(AT_WORK, *words(bench), begin, seconds, 1)) for _ in range(count)
        ]
        each = [told(process) for process in processes]
    return {
        "per_s": round(sum(one["per_s"] for one in each), 1),
        "peak_gb": sum(one["peak_gb"] for one in each),
    }


@contextlib.contextmanager
def _environment(more: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in more}
    os.environ.update(more)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextlib.contextmanager
def mps() -> Iterator[dict[str, str] | None]:
    """NVIDIA's MPS daemon, of this process alone: no setting of the card is changed. None where it can't run."""
    with tempfile.TemporaryDirectory() as folder:
        where = {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        with _environment(where):
            try:
                subprocess.run(["nvidia-cuda-mps-control", "-d"], check=True, capture_output=True, timeout=20)
            except (OSError, subprocess.SubprocessError):
                yield None
                return
            try:
                yield where
            finally:
                subprocess.run(
                    ["nvidia-cuda-mps-control"],
                    input="quit\n",
                    text=True,
                    check=False,
                    capture_output=True,
                    timeout=30,
                )


def out_of_memory(bench: Bench) -> Found:
    """10. One process with a quarter of the memory is driven out of it: what its neighbour notices."""
    bench.needs_gpu("memory")
    seconds = bench.size(6, 2)
    with child(AT_WORK, *words(bench), 0, seconds, 0.5) as calm:
        alone = told(calm)
    with child(AT_WORK, *words(bench), 0, seconds, 0.5) as neighbour:
        time.sleep(bench.size(8, 4))
        with child(GREEDY) as greedy:
            took = told(greedy)
        beside = told(neighbour)
    return {"alone": alone["per_s"], "beside": beside["per_s"], "greedy_had_gb": took["gb"]}


def deterministic(bench: Bench) -> Found:
    """11. Two fits, and one that is interrupted and resumed, with deterministic kernels: the same bits, and the cost;
    and a backward of bvlc_googlenet."""
    pack = bench.pack(bench.size(1024, 32), bench.side, 8)

    def fit(*, exact: bool = True, **how: Any) -> Checkpoint:
        return train(trainer(bench, pack, recipe=recipe(bench, epochs=2), deterministic=exact), **how)

    halfway: list[Checkpoint] = []
    first, second = fit(save=halfway.append), fit()
    resumed, loose = fit(resume=halfway[0]), fit(exact=False)
    rates = {name: one.history[-1]["images_per_s"] for name, one in (("exact", second), ("usual", loose))}
    return {
        "twice the same": _same(first, second),
        "resumed the same": _same(first, resumed),
        **rates,
        "bvlc_googlenet": _caffe_backward(bench),
    }


def _same(one: Checkpoint, other: Checkpoint) -> bool:
    return all(torch.equal(one.model[name], other.model[name]) for name in one.model)


def _caffe_backward(bench: Bench) -> str:
    torch.use_deterministic_algorithms(True)
    try:
        network = backbones.build("bvlc_googlenet", 12, 0).to(bench.device)
        network(torch.randn(2, 3, 224, 224, device=bench.device)).sum().backward()
    except RuntimeError as error:
        return str(error).splitlines()[0][:160]
    finally:
        torch.use_deterministic_algorithms(False)
    return "fine"
