"""What a search asks for: each trial is the launch that one would ask for with its settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from muster.orchestrator.jobs.search.request import SearchRequest, load_search, parse_search
from muster.orchestrator.methods.loading import load
from muster.workers.errors import UsageError
from tests.cli import Muster


def search_of(method: str, *axes: str, D: str | None = None, **flags: Any) -> SearchRequest:
    given = {"method": method, "data.val_classes": 40, **flags}
    return load_search(None, given, [], D, list(axes), {})


@pytest.mark.parametrize(
    ("method", "axis", "setting", "value", "flags"),
    [
        ("dreml", "lr=0.01,0.03", "recipe.lr", 0.03, {"recipe.epochs": 2, "ensemble.L": 3}),
        ("dreml", "backbone=conv4,resnet18", "ensemble.backbone", "resnet18", {"ensemble.L": 3}),
        ("bier", "learner_lr=1,2", "bier.learner_lr", 2.0, {"bier.sizes": (8, 8)}),
        ("bier", "combine=sqrt,concat", "combine", "concat", {}),
        ("baseline", "dim=32,64", "baseline.dim", 32, {"baseline.loss": "triplet"}),
        ("distill", "loss=similarities,relations", "distill.loss", "relations", {"teacher": "a-run"}),
    ],
)
def test_a_trial_is_the_launch_with_its_settings(
    method: str, axis: str, setting: str, value: object, flags: dict[str, Any]
) -> None:
    shape = {"D": "12,25"} if method == "dreml" else {}
    request = search_of(method, axis, **shape, **flags)
    settings = next(found for found in request.trials() if found[axis.partition("=")[0]] == value)
    own = {"ensemble.D": 12} if shape else {}
    asked = {"method": method, "data.val_classes": 40, **flags, **own, setting: value}
    launch = load(None, {**asked, "name": request.run}, [])
    assert request.launch_of(settings) == launch
    assert parse_search(request.document(), "run.json") == request


def test_what_follows_from_a_searched_setting_follows_in_each_trial() -> None:
    losses = search_of("baseline", "loss=triplet,npairs")
    assert [losses.launch_of(found).settings.baseline.images for found in losses.trials()] == [4, 2]  # type: ignore[attr-defined]
    networks = search_of("bier", "backbone=bvlc_googlenet,resnet18", **{"image_size": 224})
    caffe, torchvision = (networks.launch_of(found).view.std for found in networks.trials())
    assert caffe == pytest.approx((1 / 255,) * 3)
    assert torchvision != caffe


def test_single_models_are_trials_of_one_iteration_and_nothing_cuts_them() -> None:
    request = search_of("bier", "steps=5,10,20")
    assert (request.base.ensemble.L, request.search.scheduler) == (1, "none")
    assert [found["steps"] for found in request.trials()] == [5, 10, 20]


@pytest.mark.parametrize(
    ("method", "axes", "flags", "said"),
    [
        ("bier", [], {}, "Nothing to search: give --search key=values"),
        ("bier", ["images=1,2"], {}, "images = 1: must be at least 2"),
        ("bier", ["sizes=1,2"], {}, "--search sizes: there is no such key to search"),
        ("bier", ["milestones=1"], {}, "--search milestones: there is no such key to search"),
        ("bier", ["stepz=1"], {}, "Did you mean steps?"),
        ("baseline", ["loss=triplet,pairs"], {}, "there are triplet, npairs, proxynca"),
        ("distill", ["temperature=1,2"], {}, "teacher is missing"),
        ("bier", ["lr=1"], {"data.val_classes": 0}, "give --val-classes N"),
    ],
)
def test_a_wrong_search_of_single_models_is_refused(
    method: str, axes: list[str], flags: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError) as refused:
        search_of(method, *axes, **flags)
    assert said in "\n".join(refused.value.problems)


@pytest.mark.parametrize(("flags", "largest"), [([], 24), (["--max-L", 5], 5)])
def test_the_largest_ensemble_may_stand_in_a_file_and_a_flag_wins(
    muster_without_cluster: Muster, tmp_path: Path, flags: list[object], largest: int
) -> None:
    file = tmp_path / "search.toml"
    file.write_text("[ensemble]\nL = 24\n")
    words = [
        "search",
        "--D",
        "4,8",
        "--val-classes",
        40,
        "--storage",
        tmp_path / "store",
        "--dry-run",
        "--json",
    ]
    assert muster_without_cluster(*words, *flags, "--config", file).document["max_L"] == largest
    assert muster_without_cluster(*words).document["max_L"] == 8
