"""What a cluster has, node by node, and what of it binds; GPUs are played by tests/workers/gpus/played.py."""

from __future__ import annotations

from typing import Any

import pytest

from muster.orchestrator.fleet.actors import nodes as module
from muster.orchestrator.fleet.actors.gpus import gpu_of, told_of
from muster.orchestrator.fleet.actors.nodes import await_gpus
from muster.orchestrator.fleet.places.capacity import (
    auto_precision,
    check_places_for,
    input_remark,
    place_of,
    remarks,
)
from muster.orchestrator.fleet.places.inventory import Inventory, Node
from muster.orchestrator.methods.loading import load
from muster.orchestrator.settings.request import LaunchRequest
from muster.workers.errors import UsageError
from muster.workers.gpus.nvml import cards
from tests.workers.gpus import played
from tests.workers.gpus.played import PlayedNvml


def node(
    *gpus: dict[str, object],
    cpus: float = 64,
    kind: str = "",
    group: str = "",
    told: bool = True,
    offered: int | None = None,
) -> Node:
    has = {"CPU": cpus, "GPU": float(len(gpus) if offered is None else offered)} | (
        {f"accelerator_type:{kind}": 1.0} if kind else {}
    )
    return Node("host", has, cards(PlayedNvml(*gpus)) if gpus and told else None, group)


def there(*nodes: Node) -> Inventory:
    return Inventory({str(number): one for number, one in enumerate(nodes)})


def request(**flags: Any) -> LaunchRequest:
    named = {name.replace("__", "."): value for name, value in flags.items()}
    return load(None, {"method": "dreml", "data.dataset": "glyphs", **named}, [])


@pytest.mark.parametrize(
    ("nodes", "precision"),
    [
        ([node(played.H100, played.H100)], "bf16"),
        ([node(played.RTX_6000_ADA, kind="RTX-6000")], "bf16"),  # by its name it could be one of Turing
        ([node(played.RTX_2080_TI, kind="GeForce-RTX-2080-Ti")], "fp32"),
        ([node(played.H100), node(played.T4)], "fp32"),
        ([node(played.H100, played.V100)], "fp32"),  # Ray's label is that of the first alone
        ([node(played.H100, kind="H100", told=False)], "bf16"),
        ([node(played.H100, kind="RTX-6000", told=False)], "fp32"),
        ([node(played.H100, told=False)], "fp32"),
        ([node(played.H100), node()], "bf16"),  # a head without GPUs
        ([node()], "fp32"),
        ([node(played.H100, played.LOST)], "bf16"),  # what is lost trains nobody
        ([node(played.H100, {**played.A100, "mig": 1, "hidden": True})], "bf16"),
        ([node(played.H100, played.T4, offered=1)], "bf16"),  # Ray was given one, most likely not the old one
        ([node(played.T4, played.T4, offered=1)], "fp32"),
    ],
)
def test_auto_is_what_every_gpu_of_every_node_can_do(nodes: list[Node], precision: str) -> None:
    found = there(*nodes)
    assert auto_precision(1.0, found) == precision
    assert auto_precision(0.0, found) == "fp32"


def test_bf16_where_no_gpu_has_it_is_refused_and_where_some_have_not_they_are_counted() -> None:
    asked = request(ensemble__precision="bf16")
    with pytest.raises(
        UsageError, match=r"no GPU of the cluster has it: Tesla T4 GPU-.* of host.*--precision fp32"
    ):
        check_places_for(asked, 1.0, there(node(played.T4)))
    mixed = there(node(played.H100, played.H100), node(played.T4))
    check_places_for(asked, 1.0, mixed)
    (remark,) = remarks(asked, 1.0, "bf16", mixed)
    assert remark.startswith("1 GPU(s) without bf16 get no members: Tesla T4")
    assert remarks(asked, 1.0, "fp32", mixed) == []
    (slow,) = remarks(asked, 1.0, "fp32", there(node(played.H100)))
    assert "tf32 trains several times faster" in slow
    with pytest.raises(UsageError, match="tf32: it is a way of GPUs"):
        check_places_for(request(ensemble__precision="tf32"), 0.0, mixed)
    with pytest.raises(UsageError, match="tf32: no GPU of the cluster has it"):
        check_places_for(request(ensemble__precision="tf32"), 1.0, there(node(played.V100)))


@pytest.mark.parametrize(
    ("nodes", "share", "slots", "bound"),
    [
        ([node(*[played.H100] * 8)], 0.3, 24, ""),
        ([node(played.H100)] * 8, 1.0, 8, ""),
        ([node(*[played.H100] * 4, cpus=8, group="gpu")], 0.25, 8,
         "8 members at once: CPUs of worker group gpu; 16 would fit the GPUs"),
        ([node(*[played.H100] * 4, cpus=2)], 1.0, 2, "2 members at once: CPUs of node host; 4 would fit the GPUs"),
        ([node(cpus=0), node(*[played.H100] * 2, cpus=4)], 0.5, 4, ""),
    ],
)  # fmt: skip
def test_the_plan_knows_how_many_run_at_once_and_what_binds(
    nodes: list[Node], share: float, slots: int, bound: str
) -> None:
    asked, found = request(resources__gpus_per_member=share), there(*nodes)
    assert place_of(asked, share, found).slots == slots
    assert remarks(asked, share, "bf16", found) == ([bound] if bound else [])


MB = 10**6


@pytest.mark.parametrize(
    ("asked", "share", "gpus", "images", "text"),
    [
        ("auto", 1.0, [played.H100], 1200 * MB,
         "input: 1.2 GB of training images on its GPU for each member, where they fit"),
        ("device", 1.0, [played.H100], 1200 * MB, "input: 1.2 GB of training images on its GPU for each member"),
        ("host", 1.0, [played.H100], 1200 * MB, ""),
        ("auto", 0.0, [], 1200 * MB, ""),
        ("auto", 0.25, [played.H100, played.T4], 5100 * MB,
         "input: the host, as there are 5.1 GB of training images for each member, and its share of the smallest GPU "
         "is 4.0 GB"),
        ("auto", 1.0, [played.H100, played.T4], 5100 * MB,
         "input: 5.1 GB of training images on its GPU for each member, where they fit"),
    ],
)  # fmt: skip
def test_the_plan_says_where_the_images_will_be(
    asked: str, share: float, gpus: list[Any], images: int, text: str
) -> None:
    assert input_remark(request(resources__input=asked), share, there(node(*gpus)), images) == text


def test_images_on_a_gpu_that_is_not_there_or_too_small_are_refused() -> None:
    asked = request(resources__input="device")
    with pytest.raises(UsageError, match="--input device: members train on CPUs here"):
        check_places_for(asked, 0.0, there(node()))
    with pytest.raises(
        UsageError, match=r"--input device: 22.0 GB of training images .* is 16.1 GB\. Take --input host"
    ):
        input_remark(asked, 1.0, there(node(played.T4)), 22000 * MB)


def test_gpus_without_a_cpu_hold_nobody() -> None:
    with pytest.raises(UsageError, match="2 GPUs and no CPU beside them"):
        check_places_for(request(), 1.0, there(node(played.H100, played.H100, cpus=0), node(cpus=8)))


def test_ranks_need_whole_gpus() -> None:
    asked = load(None, {"method": "bier", "data.dataset": "glyphs", "resources.ranks": 2}, [])
    sliced = there(node(played.SLICED, played.SLICED))
    with pytest.raises(UsageError, match=r"2 of the cluster's 2 GPUs are slices \(MIG\).*Take at most 1"):
        check_places_for(asked, 1.0, sliced)
    check_places_for(asked, 1.0, there(node(played.SLICED), node(played.H100, played.H100)))
    check_places_for(request(), 1.0, sliced)


def gpu(*gpus: dict[str, object], visible: str = "0") -> Any:
    return gpu_of("node", "host", visible, cards(PlayedNvml(*gpus)))


def test_a_holder_knows_its_gpu_by_its_uuid() -> None:
    found = gpu(played.T4, played.H100, visible="1")
    assert found.visible == cards(PlayedNvml(played.H100))[0].uuid
    assert (found.name, found.bf16, found.trouble) == ("NVIDIA H100 80GB HBM3", True, "")
    assert not gpu(played.T4).bf16


def test_what_a_holder_finds_wrong() -> None:
    assert gpu(played.FAULTY).trouble == "3 uncorrected ECC errors"
    assert gpu(played.LOST).trouble == "its driver says: GPU is lost"
    assert gpu(played.H100, visible="5").trouble == "the driver does not know it any more"
    assert "another process holds 75.2 GB of its 85.5 GB" in gpu(played.BUSY).trouble
    assert "divided into slices (MIG)" in gpu(played.SLICED).trouble


def test_a_divided_gpu_that_ray_counts_as_one_says_what_to_start_ray_with() -> None:
    whole = cards(PlayedNvml(played.H100))[0].uuid
    text = gpu(played.SHOWN, played.H100).trouble
    assert f"CUDA_VISIBLE_DEVICES=MIG-0000aaaa,MIG-2222cccc,{whole} and --num-gpus 3" in text
    assert "`nvidia-smi -L`" in gpu(played.SLICED).trouble  # whose slices are not shown
    lost = gpu(played.SHOWN, played.LOST).trouble
    assert "CUDA_VISIBLE_DEVICES=MIG-0000aaaa,MIG-2222cccc and --num-gpus 2" in lost
    looked_at = told_of("0", cards(PlayedNvml(played.SHOWN)), alone=True)
    assert "divided into slices (MIG)" in looked_at  # it stays out


def test_the_one_slice_that_a_container_is_shown_is_used_as_a_gpu() -> None:
    """The runtime of containers shows the whole by number 0, and CUDA there finds the slice by it."""
    one = {**played.SHOWN, "slices": {2: played.SLICES[2]}}
    found = gpu(one)
    assert (found.visible, found.trouble) == ("MIG-2222cccc", "")
    assert found.name.endswith("MIG 1g.5gb")


def test_a_slice_is_looked_at_like_a_gpu() -> None:
    found = gpu(played.SHOWN, visible="MIG-0000aaaa")
    assert (found.name, found.bf16, found.trouble) == ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", True, "")
    used = {0: {**played.SLICES[0], "used": 3 * played.GIB}}
    assert "another process holds 3.2 GB of its 20.9 GB" in gpu(
        {**played.SHOWN, "slices": used}, visible="MIG-0000aaaa"
    ).trouble  # fmt: skip
    assert gpu({**played.SHOWN, "ecc": 2}, visible="MIG-0000aaaa").trouble == "2 uncorrected ECC errors"


def test_the_plan_counts_the_memory_of_the_smallest_slice() -> None:
    text = input_remark(request(), 1.0, there(node(played.SHOWN, played.H100, offered=3)), 6000 * MB)
    assert "its share of the smallest GPU is 5.1 GB" in text


def test_a_slice_that_ray_was_told_of_and_a_gpu_by_ray_s_word_are_taken_as_they_are() -> None:
    assert gpu(played.SLICED, visible="MIG-1234").trouble == ""
    assert gpu_of("node", "host", "3", ()).visible == "3"


class Ray:
    """A cluster whose GPUs join after some looks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, joins_after: int) -> None:
        self.looks, self.joins_after, self.asked, self.now = 0, joins_after, list[Any](), 0.0
        monkeypatch.setattr(module.ray, "cluster_resources", self.resources)
        monkeypatch.setattr("ray.autoscaler.sdk.request_resources", self.request)
        monkeypatch.setattr(module.time, "sleep", self.sleep)
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)

    def resources(self) -> dict[str, float]:
        self.looks += 1
        return {"CPU": 4.0} | ({"GPU": 1.0} if self.looks > self.joins_after else {})

    def request(self, bundles: Any) -> None:
        self.asked.append(bundles)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize("share", [None, 0.5])
def test_gpus_that_are_about_to_join_are_waited_for(
    monkeypatch: pytest.MonkeyPatch, share: float | None
) -> None:
    said: list[str] = []
    ray = Ray(monkeypatch, joins_after=4)
    await_gpus(share, said.append)
    assert "waiting" in said[0]
    assert ray.asked == [[{"GPU": 1}], []]  # an autoscaler starts a node


def test_where_none_joins_nothing_is_trained_on_cpus_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = Ray(monkeypatch, joins_after=10**6)
    with pytest.raises(UsageError, match="--gpus-per-member 0"):
        await_gpus(None, lambda text: None)
    assert ray.now == 60
    assert ray.asked[-1] == []


@pytest.mark.parametrize(("share", "joins_after"), [(0.0, 10**6), (None, 0), (1.0, 0)])
def test_nobody_waits_where_there_is_no_need(
    monkeypatch: pytest.MonkeyPatch, share: float | None, joins_after: int
) -> None:
    ray = Ray(monkeypatch, joins_after)
    await_gpus(share, lambda text: None)
    assert ray.now == 0


def test_what_the_driver_knows_of_a_gpu_that_is_looked_at() -> None:
    there = cards(PlayedNvml(played.H100, played.FAULTY, played.BUSY))
    assert told_of("0", there, alone=True) == ""
    assert told_of("1", there, alone=True) == "3 uncorrected ECC errors"
    assert "another process holds 75.2 GB" in told_of("2", there, alone=True)
    assert told_of("2", there, alone=False) == ""  # members are on it
    assert told_of("7", there, alone=True) == "the driver does not know it any more"
    assert told_of("0", (), alone=True) == ""


def test_of_a_slice_the_driver_is_not_asked() -> None:
    """NVML tells of whole GPUs: a slice that failed a member once would be lost for good."""
    assert told_of("MIG-1234", cards(PlayedNvml(played.SLICED)), alone=True) == ""


def test_memory_that_is_the_host_s_too_is_not_taken_for_somebody_s() -> None:
    shared = {**played.BUSY, "name": "NVIDIA GH200 480GB"}
    assert told_of("0", cards(PlayedNvml(shared)), alone=True) == ""


def test_gpus_of_which_ray_alone_knows_are_not_said_to_lack_anything() -> None:
    unknown = there(Node("host", {"CPU": 8.0, "GPU": 2.0}))
    asked = request(ensemble__precision="bf16")
    check_places_for(asked, 1.0, unknown)
    assert remarks(asked, 1.0, "bf16", unknown) == []
    assert auto_precision(1.0, unknown) == "fp32"


def test_a_gpu_that_no_driver_knows_is_cured_where_ray_was_told_of_it() -> None:
    found = gpu_of("node", "host", "0", ())
    assert found.shown == "GPU 0 of node host"
    assert "--num-gpus" in found.cure
    assert "--gpus-per-member 0" in found.cure
    lost, unseen = gpu(played.H100, visible="5"), gpu_of("node", "host", "MIG-1234", ())
    assert all("nvidia-smi" in one.cure for one in (gpu(played.FAULTY), lost, unseen))
