"""9 and 12 to 15: several members in one, what arithmetic costs in recall, evaluation, embedding, and BIER's step."""

from __future__ import annotations

import copy
import os
import socket
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from gpu import common
from gpu.common import Bench, Found, UnmeasuredError, recipe, trainer
from muster.workers.embed import embed
from muster.workers.networks import backbones
from muster.workers.score.nmi import clusters_on
from muster.workers.score.protocol import leave_one_out
from muster.workers.score.retrieval import prefix_curve
from muster.workers.train.loop import train
from muster.workers.train.prefetch import Buffer


def stacked(bench: Bench) -> Found:
    """9. Members stacked and mapped over (`torch.func`) against one after the other: images a second of all."""
    from torch.func import functional_call, grad_and_value, stack_module_state, vmap
    from torch.func import replace_all_batch_norm_modules_ as without_statistics

    found: Found = {}
    for backbone, side, full, most in (("conv4", 32, 32, 8), ("resnet18", 64, 16, 4)):
        batch, members = bench.size(full, 4), bench.size(most, 2)
        networks = [backbones.build(backbone, 12, seed).to(bench.device).train() for seed in range(members)]
        for network in networks:
            without_statistics(network)
        images = torch.randn(members, batch, 3, side, side, device=bench.device)
        labels = torch.randint(0, 12, (members, batch), device=bench.device)
        empty = copy.deepcopy(networks[0]).to("meta")
        parameters, buffers = stack_module_state(networks)

        def loss(
            weights: Any, rest: Any, x: torch.Tensor, y: torch.Tensor, empty: nn.Module = empty
        ) -> torch.Tensor:
            return nn.functional.cross_entropy(functional_call(empty, (weights, rest), (x,)), y)

        mapped = vmap(grad_and_value(loss), randomness="different")

        def one_by_one(networks: Any = networks, images: Any = images, labels: Any = labels) -> None:
            for network, x, y in zip(networks, images, labels, strict=True):
                network.zero_grad(set_to_none=True)
                nn.functional.cross_entropy(network(x), y).backward()

        def at_once(mapped: Any = mapped, where: Any = (parameters, buffers, images, labels)) -> None:
            mapped(*where)

        steps = bench.size(50, 2)
        found[backbone] = {
            "one by one": bench.rate(one_by_one, batch * members, steps)["per_s"],
            "stacked": bench.rate(at_once, batch * members, steps)["per_s"],
        }
    return found


def recall_by_precision(bench: Bench) -> Found:
    """12. recall@1 on glyphs over 3 seeds in bf16 and fp32: one member of 6 epochs, D = 100."""
    try:
        from muster.workers.datasets import Glyphs

        data = Glyphs()
        splits = data.splits()
        packs = {name: _drawn(data, splits[name], bench) for name in ("train", "test")}
    except ImportError as error:
        raise UnmeasuredError(f"glyphs can't be drawn: {error}") from error
    found: Found = {}
    for precision in ("bf16", "fp32"):
        found[precision] = [_recall(bench, packs, precision, seed) for seed in range(bench.repeats)]
    return found


def _drawn(data: Any, split: Any, bench: Bench) -> Any:
    import pyarrow as pa

    from gpu.common import PackIndex, image_digest
    from muster.workers.packs.pack import INDEX_SCHEMA, Pack

    items = split.items[: bench.size(len(split.items), 160)]
    images = [np.asarray(data.read(item).image.resize((32, 32))) for item in items]
    rows = [
        {
            "image_id": item.image_id, "class_name": item.class_name, "role": "", "offset": number * 3072,
            "label": split.labels[item.class_name], "height": 32, "width": 32, "sha256": image_digest(image),
        }
        for number, (item, image) in enumerate(zip(items, images, strict=True))
    ]  # fmt: skip
    names = list(split.class_names)[: max(row["label"] for row in rows) + 1]
    index = PackIndex(
        "glyphs", split.name, "squash:32", names, pa.Table.from_pylist(rows, schema=INDEX_SCHEMA)
    )
    return Pack(index, np.concatenate([image.reshape(-1) for image in images]))


def _recall(bench: Bench, packs: Any, precision: str, seed: int) -> float:
    asked = recipe(
        bench, epochs=bench.size(6, 1), batch_size=32, resize="squash:32", crop=32, pad=1, flip=False,
        schedule="one-cycle", lr=0.03, nesterov=True, weight_decay=5e-4,
    )  # fmt: skip
    classes = len(packs["train"].index.class_names)
    how = {"backbone": "conv4", "D": min(100, classes), "seed": seed, "precision": precision}
    member = trainer(bench, packs["train"], recipe=asked, **how)
    train(member)
    test = packs["test"]
    part = test.index.part()
    vectors = embed(member.module, test, part, common.view(32), bench.device)
    (score,) = prefix_curve([vectors], leave_one_out(part.labels))
    return round(100 * score.recall[1], 2)


def evaluation(bench: Bench) -> Found:
    """13. A curve at SOP's size (60,502 images, L = 48, D = 12) on the device; its hits against the CPU's at a tenth;
    and Lloyd's algorithm at that size."""
    images, L = bench.size(60502, 400), bench.size(48, 3)
    rng = np.random.default_rng(0)
    labels = np.arange(images) % (images // 5)

    def members(count: int) -> list[np.ndarray]:
        centres = [rng.normal(size=(count // 5 + 1, 12)) for _ in range(L)]
        kind = np.arange(count) % (count // 5)
        found = [one[kind] + rng.normal(size=(count, 12)) for one in centres]
        return [(one / np.linalg.norm(one, axis=1, keepdims=True)).astype(np.float32) for one in found]

    vectors = members(images)
    protocol, memory = leave_one_out(labels), bench.size(16 << 30, 1 << 28)
    ks, on = (1, 10, 100), str(bench.device)
    curve = lambda: prefix_curve(vectors, protocol, ks, device=on, memory=memory)  # noqa: E731
    curve()
    found: Found = {"seconds": round(min(bench.seconds(curve) for _ in range(bench.repeats)), 2)}
    found["seconds, as a job scores"] = round(
        bench.seconds(lambda: prefix_curve(vectors, protocol, ks, map_at_r=True, device=on, memory=10**9)), 2
    )
    tenth = images // 10
    few = members(tenth)
    fewer = leave_one_out(np.arange(tenth) % (tenth // 5))
    there, here = (prefix_curve(few, fewer, ks, device=one, memory=1 << 30) for one in (on, "cpu"))
    differ = [abs(a.hits[k] - b.hits[k]) for a, b in zip(there, here, strict=True) for k in ks]
    found["hits that differ"] = {"most": max(differ), "near_ties": max(one.near_ties for one in here)}
    joined, rounds = np.concatenate(vectors, axis=1), bench.size(20, 2)
    found[f"Lloyd, {rounds} iterations, s"] = round(
        bench.seconds(lambda: clusters_on(on, joined, images // 5, 0, rounds, 1)), 2
    )
    return found


def embedding(bench: Bench) -> Found:
    """14. Vectors in float32: images a second, and how far they are from the CPU's."""
    pack = bench.pack(bench.size(8000, 64), bench.side, bench.size(100, 8))
    part = pack.index.part()
    network = backbones.build("resnet18", 12, 0)
    view = common.view(bench.side)
    found = bench.rate(lambda: embed(network, pack, part, view, bench.device), len(part.rows), 1, warmup=1)
    few = pack.index.part(range(2))
    apart = embed(network, pack, few, view, bench.device) - embed(
        network, pack, few, view, torch.device("cpu")
    )
    return {**found, "furthest from the CPU": float(np.abs(apart).max())}


def bier_step(bench: Bench) -> Found:
    """15. A step of BIER on one rank, milliseconds; and the same under DDP and SyncBatchNorm in a group of one."""
    from muster.workers.methods.bier.settings import BierSettings, BierSpec
    from muster.workers.methods.bier.trainer import BierTrainer
    from muster.workers.spec import InputRecipe
    from muster.workers.train.trainer import Materials, prepare_device

    labels, side = bench.size(64, 4), bench.size(224, 64)
    pack = bench.pack(labels * 4, side, labels)
    part = pack.index.part()
    found: Found = {}
    for backbone in ("resnet18", "bvlc_googlenet"):
        if backbone != "resnet18" and bench.small:
            continue  # it takes pictures of 224 px, and a CPU has no time for these
        asked = BierSpec(
            train_digest=part.digest, classes=part.classes, backbone=backbone, weights="none", seed=0,
            precision="fp32", threads=torch.get_num_threads(), deterministic=False,
            bier=BierSettings(labels=labels, images=2, steps=100),
            recipe=InputRecipe(resize=f"squash:{side}", crop=side),
        )  # fmt: skip
        prepare_device(asked, bench.device)
        member = BierTrainer(asked, Materials(pack, part, bench.device))
        batch = member.batch(0, Buffer(bench.device))
        rate = bench.rate(
            lambda member=member, batch=batch: member.step(0, batch), 1, bench.size(50, 2), warmup=10
        )
        found[f"{backbone} ms"] = round(1000 / rate["per_s"], 2)
        if backbone == "resnet18":
            found["in a group of one, ms"] = _grouped(bench, member, batch)
    return found


def _grouped(bench: Bench, member: Any, batch: Any) -> float:
    """The step with gradients and statistics that go through collectives."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("nccl" if bench.on_gpu else "gloo", rank=0, world_size=1)
    try:
        module = member.module
        if bench.on_gpu:
            module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        devices = [bench.device] if bench.on_gpu else None
        member.joined = nn.parallel.DistributedDataParallel(
            module, device_ids=devices, broadcast_buffers=False, gradient_as_bucket_view=True
        )
        rate = bench.rate(lambda: member.step(0, batch), 1, bench.size(50, 2), warmup=10)
        return round(1000 / float(rate["per_s"]), 2)
    finally:
        dist.destroy_process_group()
