"""What the machines at hand hold of a request: what would wait for ever is refused, with what there is."""

from __future__ import annotations

from typing import Any

import pytest

from muster.cluster import local
from muster.orchestrator.fleet.places.capacity import (
    auto_precision,
    check_machine,
    check_places_for,
    gpu_share,
    place_of,
)
from muster.orchestrator.fleet.places.inventory import Inventory, Node
from muster.orchestrator.methods.loading import load
from muster.orchestrator.records.measured import Place
from muster.orchestrator.settings.request import LaunchRequest
from muster.workers.errors import UsageError


def request(method: str = "dreml", **flags: Any) -> LaunchRequest:
    given = {"gpus": "resources.gpus_per_member", "ranks": "resources.ranks", "threads": "ensemble.threads"}
    given |= {"parallel": "resources.parallel", "precision": "ensemble.precision", "input": "resources.input"}
    named = {given[name]: value for name, value in flags.items()}
    return load(None, {"method": method, "data.dataset": "glyphs", **named}, [])


@pytest.mark.parametrize(
    ("asked", "gpus", "share"),
    [
        (request(), 0, 0.0),
        (request(), 4, 1.0),
        (request(gpus=0.25), 1, 0.25),
        (request(gpus=0), 4, 0.0),
        (request("bier"), 4, 1.0),
        (request("bier"), 0, 0.0),
    ],
)
def test_a_member_s_share_of_a_gpu(asked: LaunchRequest, gpus: float, share: float) -> None:
    assert gpu_share(asked, Inventory.of({"GPU": gpus} if gpus else {})) == share


@pytest.mark.parametrize(("share", "there"), [(1.0, {}), (0.5, {"GPU": 0.0})])
def test_gpus_that_are_not_there_are_refused(share: float, there: dict[str, float]) -> None:
    with pytest.raises(UsageError) as refused:
        gpu_share(request(gpus=share), Inventory.of(there))
    assert str(refused.value) == (
        f"--gpus-per-member {share:g}: the cluster has {there.get('GPU', 0):g} GPUs. Give 0 to train on CPUs."
    )


@pytest.mark.parametrize(
    ("asked", "gpus", "there", "refused"),
    [
        (request(threads=2), 0.0, {"CPU": 2.0}, ""),
        (
            request(threads=3), 0.0, {"CPU": 2.0},
            "ensemble.threads = 3: the cluster has 2 CPUs. Take at most 2.",
        ),
        (request(threads=3), 1.0, {"CPU": 2.0, "GPU": 1.0}, ""),  # a GPU's member takes one CPU
        (request(), 0.0, {}, "ensemble.threads = 1: the cluster has 0 CPUs. Start Ray with --num-cpus, or add nodes."),
        (request("bier", ranks=2), 0.0, {"CPU": 2.0}, ""),
        (
            request("bier", ranks=3), 0.0, {"CPU": 2.0},
            "--ranks 3: the cluster has 2 CPUs, 1 a rank. Take at most 2.",
        ),
        (
            request("bier", ranks=2, threads=2), 0.0, {"CPU": 3.0},
            "--ranks 2: the cluster has 3 CPUs, 2 a rank. Take at most 1.",
        ),
        (request("bier", ranks=4), 1.0, {"CPU": 4.0, "GPU": 4.0}, ""),
        (
            request("bier", ranks=4), 1.0, {"CPU": 1.0, "GPU": 4.0},
            "--ranks 4: the cluster has 4 GPUs, and CPUs beside 1 of them. Take at most 1.",
        ),
        (
            request("bier", ranks=4), 1.0, {"CPU": 9.0, "GPU": 3.0},
            "--ranks 4: the cluster has 3 GPUs. Take at most 3.",
        ),
        (request("bier", ranks=2), 1.0, {"CPU": 1.0}, "--ranks 2: the cluster has 0 GPUs. Take at most 0."),
        (request("bier"), 1.0, {"CPU": 1.0}, ""),  # one rank waits for a GPU to come
    ],
)  # fmt: skip
def test_what_would_wait_for_ever_is_refused(
    asked: LaunchRequest, gpus: float, there: dict[str, float], refused: str
) -> None:
    if not refused:
        check_places_for(asked, gpus, Inventory.of(there))
        return
    with pytest.raises(UsageError) as error:
        check_places_for(asked, gpus, Inventory.of(there))
    assert str(error.value) == refused


@pytest.mark.parametrize(
    ("asked", "gpus", "nodes", "refused"),
    [
        (request(threads=4), 0.0, [{"CPU": 4.0}] * 4, ""),
        (
            request(threads=8), 0.0, [{"CPU": 2.0}, {"CPU": 4.0}, {"CPU": 4.0}],
            "ensemble.threads = 8: its largest node has 4 CPUs. Take at most 4.",
        ),
        (request("bier", ranks=2, threads=2), 0.0, [{"CPU": 3.0}] * 2, ""),
        (
            request("bier", ranks=3, threads=2), 0.0, [{"CPU": 3.0}] * 2,
            "--ranks 3: the cluster has 6 CPUs, 2 a rank. Take at most 2.",
        ),
        (
            request("bier", ranks=8), 1.0, [{"CPU": 2.0, "GPU": 4.0}] * 2,
            "--ranks 8: the cluster has 8 GPUs, and CPUs beside 4 of them. Take at most 4.",
        ),
    ],
)  # fmt: skip
def test_no_process_is_spread_over_nodes(
    asked: LaunchRequest, gpus: float, nodes: list[dict[str, float]], refused: str
) -> None:
    there = Inventory({f"{number}": Node(f"host {number}", has) for number, has in enumerate(nodes)})
    if not refused:
        check_places_for(asked, gpus, there)
        return
    with pytest.raises(UsageError) as error:
        check_places_for(asked, gpus, there)
    assert str(error.value) == refused


def with_cards(*kinds: str, **amounts: float) -> dict[str, float]:
    return {"CPU": 8.0, "GPU": 2.0, **amounts, **{f"accelerator_type:{kind}": 1.0 for kind in kinds}}


@pytest.mark.parametrize(
    ("gpus", "kinds", "precision"),
    [
        (1.0, ["H100"], "bf16"),
        (0.5, ["A100-40G", "H100"], "bf16"),
        (1.0, ["GeForce-RTX-4090", "L40S"], "bf16"),
        (1.0, ["H100", "V100"], "fp32"),
        *(
            (1.0, [kind], "fp32")
            for kind in ("T4", "GeForce-RTX-2080-Ti", "RTX-6000", "TITAN-RTX", "TITAN-V", "T1000")
        ),
        (0.0, ["H100"], "fp32"),
        (1.0, [], "fp32"),
    ],
)
def test_auto_is_what_every_gpu_can_do(gpus: float, kinds: list[str], precision: str) -> None:
    assert auto_precision(gpus, Inventory.of(with_cards(*kinds))) == precision


@pytest.mark.parametrize(
    ("asked", "gpus", "there", "place"),
    [
        (request(), 0.0, {"CPU": 8.0}, Place("cpu", 8, ())),
        (request(threads=3), 0.0, {"CPU": 8.0}, Place("cpu", 2, ())),
        (request(threads=3), 0.0, {}, Place("cpu", 1, ())),
        (request(), 0.0, with_cards("H100"), Place("cpu", 8, ())),
        (request(), 1.0, with_cards("H100", "T4"), Place("gpu", 2, ("H100", "T4"))),
        (request(), 1 / 3, with_cards("H100"), Place("gpu", 6, ("H100",))),
        (request(), 0.25, {"CPU": 8.0}, Place("gpu", 1, ())),
        (request(parallel=3), 0.0, {"CPU": 8.0}, Place("cpu", 3, ())),
        (request("bier", ranks=2), 1.0, with_cards("H100", GPU=5.0), Place("gpu", 2, ("H100",))),
    ],
)
def test_where_members_are_trained_and_how_many_at_once(
    asked: LaunchRequest, gpus: float, there: dict[str, float], place: Place
) -> None:
    assert place_of(asked, gpus, Inventory.of(there)) == place


def test_this_machine_is_asked_only_where_it_could_be_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked() -> dict[str, float]:
        raise AssertionError("counting takes a second")

    monkeypatch.setattr(local, "offered", asked)
    check_machine([request(), request(gpus=0), request("bier")])
    asking = (
        {"gpus": 0.5},
        {"threads": 2},
        {"precision": "tf32"},
        {"precision": "bf16"},
        {"input": "device"},
    )
    for large in (*(request(**flags) for flags in asking), request("bier", ranks=2)):
        with pytest.raises(AssertionError, match="counting"):
            check_machine([request(), large])


def test_all_that_this_machine_lacks_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "offered", lambda: {"CPU": 2, "GPU": 0})
    check_machine([request(threads=2), request("bier", ranks=2)])
    with pytest.raises(UsageError) as refused:
        check_machine(
            [
                request(threads=3),
                request(gpus=1),
                request(threads=3),
                request("bier", ranks=5),
                request(precision="tf32"),
                request(input="device"),
            ]
        )
    assert refused.value.problems == [
        "ensemble.threads = 3: the cluster has 2 CPUs. Take at most 2.",
        "--gpus-per-member 1: the cluster has 0 GPUs. Give 0 to train on CPUs.",
        "--ranks 5: the cluster has 2 CPUs, 1 a rank. Take at most 2.",
        "--precision tf32: it is a way of GPUs to compute. On CPUs take --precision fp32.",
        "--input device: members train on CPUs here, and read the images where they are.",
    ]
