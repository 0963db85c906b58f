"""What "auto" became binds a run: another cluster, later, changes none of its keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from muster.orchestrator.ensemble.requests import EnsembleRequest
from muster.orchestrator.ensemble.terms import ClusterTerms, known_terms
from muster.orchestrator.fleet.places.inventory import Inventory
from muster.orchestrator.methods.loading import load
from muster.workers.errors import DamagedRunError, UsageError
from muster.workers.networks import backbones
from muster.workers.store.layout import Store
from muster.workers.store.runs import RunFolder

H100 = Inventory.of({"CPU": 8.0, "GPU": 2.0, "accelerator_type:H100": 1.0})
V100 = Inventory.of({"CPU": 8.0, "GPU": 2.0, "accelerator_type:V100": 1.0})
CPUS = Inventory.of({"CPU": 8.0})


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return Store(str(tmp_path / "store")).run("one")


@pytest.fixture
def launch(shapes: Path, run: RunFolder) -> Callable[..., Any]:
    """A request of the run, with flags."""

    def of(**flags: Any) -> Any:
        common = {
            "data.dataset": "folder",
            "data.root": str(shapes),
            "ensemble.backbone": "conv4",
            "ensemble.D": 4,
        }
        named = {name.replace("__", "."): value for name, value in flags.items()}
        return load(None, {**common, "name": "one", "storage": run.files.root, **named}, [])

    return of


def begun(run: RunFolder, request: Any, there: Inventory) -> Any:
    """Its terms on a cluster, and a plan: from now on the run is bound."""
    terms = ClusterTerms(request, run, there)
    found = terms(EnsembleRequest(launch=request))
    run.write("plan.json", {"text": "", "members": []})
    return found


@pytest.mark.parametrize("later", [H100, V100])
def test_the_precision_stays_on_other_cards(run: RunFolder, launch: Callable[..., Any], later: Any) -> None:
    assert begun(run, launch(), H100) == ("none", "bf16")
    terms = ClusterTerms(launch(), run, later)
    assert (terms.gpus, terms(EnsembleRequest(launch=launch()))) == (1.0, ("none", "bf16"))


def test_a_run_that_was_begun_on_gpus_is_not_finished_on_cpus_unasked(
    run: RunFolder, launch: Callable[..., Any]
) -> None:
    begun(run, launch(), H100)
    with pytest.raises(UsageError, match=r"begun on GPUs.*muster resume one --gpus-per-member 0"):
        ClusterTerms(launch(), run, CPUS)
    asked = launch(resources__gpus_per_member=0.0)
    terms = ClusterTerms(asked, run, CPUS)
    assert (terms.gpus, terms(EnsembleRequest(launch=asked))) == (0.0, ("none", "bf16"))
    assert ClusterTerms(launch(), run, H100).gpus == 0.0  # it goes on where it was told to


def test_gpus_that_come_later_take_no_member_unasked(run: RunFolder, launch: Callable[..., Any]) -> None:
    assert begun(run, launch(), CPUS) == ("none", "fp32")
    assert ClusterTerms(launch(), run, H100).gpus == 0.0
    asked = launch(resources__gpus_per_member=0.5)
    terms = ClusterTerms(asked, run, H100)
    assert (terms.gpus, terms(EnsembleRequest(launch=asked))) == (0.5, ("none", "fp32"))


def test_before_there_is_a_plan_nothing_binds(run: RunFolder, launch: Callable[..., Any]) -> None:
    ClusterTerms(launch(), run, CPUS)
    terms = ClusterTerms(launch(), run, H100)
    assert (terms.gpus, terms.settled.precision) == (1.0, "bf16")


def test_who_reads_the_store_alone_makes_the_keys_that_were_made(
    run: RunFolder, launch: Callable[..., Any]
) -> None:
    assert known_terms(launch(), run) == ("none", "fp32")
    begun(run, launch(), H100)
    assert known_terms(launch(), run) == ("none", "bf16")
    assert known_terms(launch(ensemble__precision="fp32"), run) == ("none", "fp32")


def test_older_stores_say_it_in_the_answer(run: RunFolder, launch: Callable[..., Any]) -> None:
    run.write("plan.json", {})
    run.write("answer.json", {"precision": "bf16", "weights": "ab"})
    assert known_terms(launch(), run) == ("ab", "bf16")


def weights_file(path: Path, seed: int) -> str:
    save_file(backbones.build("conv4", 4, seed).state_dict(), path)
    return str(path)


def test_initial_weights_stay_what_they_were(
    run: RunFolder, launch: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "start.safetensors"
    request = launch(ensemble__weights=weights_file(path, 1))
    digest, _ = begun(run, request, CPUS)
    weights_file(path, 2)
    resumed = EnsembleRequest(launch=request)
    assert ClusterTerms(request, run, CPUS)(resumed)[0] == digest
    path.unlink()
    assert ClusterTerms(request, run, CPUS)(resumed)[0] == digest
    weights_file(path, 2)
    run.files.delete(Store(run.files.root).weights(digest))
    with pytest.raises(UsageError, match="begun from other weights"):
        ClusterTerms(request, run, CPUS)(resumed)
    weights_file(path, 1)
    assert ClusterTerms(request, run, CPUS)(resumed)[0] == digest


@pytest.mark.parametrize("wrong", [{"device": "tpu"}, {"precision": "fp8"}, {"weights": "none"}])
def test_a_record_that_makes_no_sense_is_named(
    run: RunFolder, launch: Callable[..., Any], wrong: dict[str, str]
) -> None:
    begun(run, launch(), CPUS)
    run.write("settled.json", {**run.read("settled.json"), **wrong})
    with pytest.raises(DamagedRunError, match=r"settled\.json is damaged"):
        ClusterTerms(launch(), run, CPUS)
