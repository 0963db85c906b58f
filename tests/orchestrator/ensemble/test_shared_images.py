"""Ensembles of the same images share what is found of them, and each has its own troubles."""

from __future__ import annotations

from typing import Any

import pytest

from muster.orchestrator.ensemble import plan as planning
from muster.orchestrator.ensemble.plan import (
    PlannedEnsemble,
    prepare,
    prepare_ensembles,
    settle_members,
)
from muster.orchestrator.ensemble.requests import EnsembleRequest
from muster.orchestrator.methods.loading import load
from muster.orchestrator.settings.request import LaunchRequest
from muster.workers.errors import StoreError, UsageError
from muster.workers.store.layout import Store
from tests.orchestrator.ensemble.conftest import Asked

# Classes that are held out.


def test_ensembles_of_the_same_images_are_prepared_once(
    asked: Asked, packed: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[LaunchRequest] = []
    real = prepare
    monkeypatch.setattr(planning, "prepare", lambda *call: (calls.append(call[0]), real(*call))[1])
    same = [asked(), asked(ensemble__seed=1), asked(ensemble__D=3), asked(recipe__epochs=1)]
    others = [
        asked(data__val_classes=1), asked(data__val_classes=1, ensemble__seed=1), asked(view__crop=16),
        asked(data__train_classes=3), asked(recipe__resize="squash:24"),
    ]  # fmt: skip
    wanted = [EnsembleRequest(launch=launch) for launch in (*same, *others)]
    wanted.append(EnsembleRequest(launch=same[0], splits=("train",)))
    found = prepare_ensembles(wanted, packed, lambda *_: None)
    assert [one.trouble for one in found] == [""] * len(wanted)
    assert len(calls) == 1 + len(others) + 1
    assert [one.prepared for one in found[:4]] == [found[0].prepared] * 4
    seeds = [one.prepared.train.class_ids for one in found[4:6] if one.prepared]
    assert seeds[0] != seeds[1]


def test_of_those_that_share_images_each_is_told_what_its_own_steps_draw(asked: Asked, packed: Store) -> None:
    few = asked(recipe__resize="squash:24")
    flags = {"method": "baseline", "baseline.loss": "triplet", "baseline.labels": 2, "baseline.images": 300}
    own = {"data.dataset": "folder", "data.root": few.data.root, "image_size": 20, "storage": packed.root}
    many = load(None, {**flags, **own, "ensemble.backbone": "conv4", "recipe.resize": "squash:24"}, [])
    first, second = prepare_ensembles(
        [EnsembleRequest(launch=launch) for launch in (few, many)], packed, lambda *_: None
    )
    assert first.prepared is not None
    assert second.prepared is not None
    assert not any("A step draws" in text for text in first.prepared.warnings)
    assert any("A step draws 600 images" in text for text in second.prepared.warnings)


def test_a_request_that_its_images_do_not_fit_has_an_error_and_no_images(asked: Asked, packed: Store) -> None:
    fine, wrong = asked(), asked(ensemble__D=5, ensemble__seed=0, data__train_classes=4)
    found = prepare_ensembles(
        [EnsembleRequest(launch=launch) for launch in (wrong, fine)], packed, lambda *_: None
    )
    assert [one.prepared is None for one in found] == [True, False]
    assert "D = 5" in found[0].trouble
    assert "\n" not in found[0].trouble
    with pytest.raises(UsageError, match="D = 5"):
        prepare_ensembles([EnsembleRequest(launch=wrong)], packed, lambda *_: None, all_needed=True)


def test_what_cannot_be_settled_is_one_ensemble_s_own_trouble(asked: Asked, packed: Store) -> None:
    requests = [EnsembleRequest(launch=asked(ensemble__seed=seed), name=str(seed)) for seed in (0, 1)]
    found = prepare_ensembles(requests, packed, lambda *_: None)

    def settle(request: EnsembleRequest) -> Any:
        if request.name == "0":
            raise StoreError("the disk is full")
        return "none", "fp32"

    settled: dict[str, Any] = {}
    settle_members(found, settle, settled=settled)
    assert [one.trouble for one in found] == ["the disk is full", ""]
    assert [len(one.tasks) for one in found] == [0, 3]
    assert settled == {requests[1].launch.run: ("none", "fp32")}
    with pytest.raises(StoreError, match="the disk is full"):
        settle_members(found, settle, all_needed=True)
    unprepared = PlannedEnsemble(requests[0])
    settle_members([unprepared], settle, all_needed=True)
    assert unprepared.tasks == ()
