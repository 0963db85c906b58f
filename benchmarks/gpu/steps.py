"""1 to 4: the training step, the whole loop, what makes the host wait, and the input by itself."""

from __future__ import annotations

import itertools
import statistics
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from gpu.common import Bench, Found, UnmeasuredError, recipe, spec, trainer
from muster.workers.methods.dreml.loss import identity_proxy_loss
from muster.workers.networks import backbones
from muster.workers.packs.pack import Pack
from muster.workers.train import augment
from muster.workers.train.loop import train
from muster.workers.train.prefetch import Buffer


class Step:
    """A step of DREML on a batch that is on the device already."""

    def __init__(self, bench: Bench, backbone: str, precision: str = "bf16") -> None:
        side = max(bench.side, 32)
        self.precision = precision
        self.images = torch.randn(bench.batch, 3, side, side, device=bench.device)
        self.images = self.images.to(memory_format=torch.channels_last)
        self.labels = torch.randint(0, 12, (bench.batch,), device=bench.device)
        network = backbones.build(backbone, 12, 0).to(bench.device)
        self.network: Any = network.to(memory_format=torch.channels_last).train()
        self.optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)

    def __call__(self) -> None:
        with torch.autocast(self.images.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            output = self.network(self.images)
        loss = identity_proxy_loss(output, self.labels, False)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def captured(self) -> Any:
        """The whole step as one CUDA graph."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        self.optimizer.zero_grad(set_to_none=True)
        with (
            torch.cuda.graph(graph),
            torch.autocast("cuda", torch.bfloat16, enabled=self.precision == "bf16", cache_enabled=False),
        ):
            loss = identity_proxy_loss(self.network(self.images), self.labels, False)
            loss.backward()
            self.optimizer.step()
        return graph.replay


def resident_steps(bench: Bench) -> Found:
    """1. The step alone, eager, compiled and as a CUDA graph, images a second."""
    torch.backends.cudnn.benchmark = bench.on_gpu
    steps = bench.size(50, 2)
    found: Found = {}
    for backbone in ("resnet18", "googlenet"):
        found[f"{backbone} eager"] = bench.rate(Step(bench, backbone), bench.batch, steps, warmup=10)
    if bench.on_gpu:
        for name, made in (("compiled", _compiled), ("CUDA graph", lambda step: step.captured())):
            try:
                work = made(Step(bench, "resnet18"))
                found[f"resnet18 {name}"] = bench.rate(work, bench.batch, steps, warmup=10)
            except Exception as error:  # no compiler here, for one
                found[f"resnet18 {name}"] = f"{type(error).__name__}: {str(error)[:160]}"
    return found


def _compiled(step: Step) -> Step:
    step.network = torch.compile(step.network)
    return step


def loop(bench: Bench) -> Found:
    """2. `train` on a pack of 8,000 images, which are in the device's memory or cut by the host: images a second of the
    second epoch, and how long steps take."""
    return {place: _loop(bench, place) for place in ("device", "host")}


def _loop(bench: Bench, place: Any) -> Found:
    pack = bench.pack(bench.size(8000, 64), bench.side, bench.size(100, 8))
    member = trainer(bench, pack, place, recipe=recipe(bench, epochs=2))
    marks: list[Any] = []
    before = member.step

    def step(number: int, batch: Any) -> Any:
        found = before(number, batch)
        if bench.on_gpu:
            mark = torch.cuda.Event(enable_timing=True)
            mark.record()
            marks.append(mark)
        else:
            marks.append(time.perf_counter())
        return found

    member.step = step
    state = train(member)
    bench.sync()
    mine = marks[member.steps :]
    took = [a.elapsed_time(b) if bench.on_gpu else 1000 * (b - a) for a, b in itertools.pairwise(mine)]
    cuts = statistics.quantiles(took, n=100) if len(took) > 1 else took * 99
    return {
        "per_s": state.history[-1]["images_per_s"],
        "step_ms": {name: round(cuts[at - 1], 2) for name, at in (("p10", 10), ("p50", 50), ("p90", 90), ("p99", 99))},
        "slowest_ms": round(max(took), 2),
    }  # fmt: skip


def waits(bench: Bench) -> Found:
    """3. How often the host waits for the device in 200 steps: PyTorch's warnings, by what they say."""
    bench.needs_gpu("a count of waits")
    pack = bench.pack(bench.size(8000, 64), bench.side, bench.size(100, 8))
    member = trainer(bench, pack)
    batches = [member.batch(step, Buffer(bench.device)) for step in range(4)]
    for step in range(3):
        member.step(step, batches[step])
    bench.sync()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for step in range(200):
                member.step(step % member.steps, batches[step % 4])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return {"waits": len(told), "steps": 200, "first": [str(one.message)[:100] for one in told[:3]]}


def input_alone(bench: Bench) -> Found:
    """4. Batches without any training, images a second: as they are made today, into reused buffers with 1 to 4
    threads, and gathered on the device from pixels that are there; beside them a plain copy of as many bytes."""
    pack = bench.pack(bench.size(8000, 64), bench.side, bench.size(100, 8))
    member, steps = trainer(bench, pack, "host"), bench.size(50, 4)
    numbers, buffer = itertools.count(), Buffer(bench.device)

    def today() -> None:
        batch = member.batch(next(numbers) % member.steps, buffer)
        batch.images()

    found: Found = {"today": bench.rate(today, bench.batch, steps)}
    for threads in (1, 2, 4):
        found[f"ring, {threads} threads"] = _ring(bench, pack, threads, steps)
    found["gather on the device"] = _gathered(bench, pack, steps)
    shape = (bench.batch, bench.side, bench.side, 3)
    source, target = np.ones(shape, np.uint8), np.empty(shape, np.uint8)
    found["plain copy"] = bench.rate(lambda: np.copyto(target, source), bench.batch, steps)
    return found


def _ring(bench: Bench, pack: Pack, threads: int, steps: int) -> Found:
    """Crops are written into buffers that are there, some batches ahead."""
    part = pack.index.part()
    asked = spec(bench, part).recipe
    shape = (bench.batch, bench.side, bench.side, 3)
    buffers = [torch.empty(shape, dtype=torch.uint8, pin_memory=bench.on_gpu) for _ in range(threads + 2)]
    arrays = [buffer.numpy() for buffer in buffers]
    images = pack.pixels.reshape(len(part.rows), bench.side, bench.side, 3)
    rng = np.random.default_rng(0)

    def fill(place: int) -> torch.Tensor:
        rows = rng.integers(0, len(images), bench.batch)
        draws = rng.random((bench.batch, augment.DRAWS))
        tops, lefts = (
            (np.floor(draws[:, axis] * (2 * asked.pad + 1)).astype(int) - asked.pad).tolist()
            for axis in (0, 1)
        )
        for target, row, top, left in zip(arrays[place], rows.tolist(), tops, lefts, strict=True):
            y0, y1, x0, x1 = (
                max(top, 0),
                min(top + bench.side, bench.side),
                max(left, 0),
                min(left + bench.side, bench.side),
            )
            target[: y0 - top] = target[y1 - top :] = 0
            target[:, : x0 - left] = target[:, x1 - left :] = 0
            target[y0 - top : y1 - top, x0 - left : x1 - left] = images[row, y0:y1, x0:x1]
        return buffers[place]  # fmt: skip

    with ThreadPoolExecutor(threads) as pool:
        coming = [pool.submit(fill, place) for place in range(len(buffers))]
        place = 0

        def one() -> None:
            nonlocal place
            coming[place].result().to(bench.device, non_blocking=True)
            if bench.on_gpu:
                torch.cuda.current_stream().synchronize()  # the buffer is free again
            coming[place] = pool.submit(fill, place)
            place = (place + 1) % len(buffers)

        return bench.rate(one, bench.batch, steps)


def _gathered(bench: Bench, pack: Pack, steps: int) -> Found:
    there, here = (trainer(bench, pack, place) for place in ("device", "host"))
    buffer, numbers = Buffer(bench.device), itertools.count()
    same = all(
        torch.equal(there.batch(step, buffer).images(), here.batch(step, buffer).images())
        for step in range(there.steps)
    )
    found = bench.rate(lambda: there.batch(next(numbers) % there.steps, buffer).images(), bench.batch, steps)
    return {**found, "the same crops": same}


def arithmetic(bench: Bench) -> Found:
    """12. bf16, fp32 and TF32: images a second of the step alone."""
    steps, found = bench.size(50, 2), {}
    torch.backends.cudnn.benchmark = bench.on_gpu
    for name, precision, tf32 in (("bf16", "bf16", False), ("fp32", "fp32", False), ("tf32", "fp32", True)):
        if name == "tf32" and not bench.on_gpu:
            continue
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        found[name] = bench.rate(Step(bench, "resnet18", precision), bench.batch, steps, warmup=10)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if not found:
        raise UnmeasuredError("nothing")
    return found
