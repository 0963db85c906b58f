"""Initial weights of a search over backbones: each trial begins from those of its own network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision.models
from safetensors.torch import save_file

from muster.orchestrator.jobs.search import run as searching
from muster.orchestrator.jobs.search.job import JOB
from muster.orchestrator.jobs.search.request import SearchRequest, load_search
from muster.workers.errors import UsageError
from muster.workers.networks import backbones
from muster.workers.store.layout import Store
from tests.conftest import write_classes
from tests.orchestrator.bare import bare_terms

SMALL = ("shufflenet_v2_x0_5", "shufflenet_v2_x1_0")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_classes(tmp_path / "images", each=2)


def asked(images: Path, *others: str, **flags: Any) -> SearchRequest:
    """A search of two sizes D on 3 of 4 training classes."""
    given = {
        "data.dataset": "folder", "data.root": str(images), "image_size": 64, "data.val_classes": 1,
        "ensemble.L": 2, "storage": str(images.parent / "store"), "name": "one",
        **{name.replace("__", "."): value for name, value in flags.items()},
    }  # fmt: skip
    return load_search(None, given, [], "2,3", list(others), {})


def saved(folder: Path, backbone: str) -> str:
    """A file of initial weights for this backbone."""
    path = folder / f"{backbone}.safetensors"
    save_file(backbones.build(backbone, 4, seed=1).state_dict(), path)
    return str(path)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Files where torchvision keeps what it downloaded; the digests of their weights, by backbone."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch/hub/checkpoints"
    folder.mkdir(parents=True)
    found = {}
    for seed, name in enumerate(SMALL):
        torch.manual_seed(seed)
        state = torchvision.models.get_model(name, weights=None).state_dict()
        url = torchvision.models.get_model_weights(name)["DEFAULT"].url
        torch.save(state, folder / url.rpartition("/")[2])
        found[name] = backbones.state_digest(state)
    return found


def test_each_trial_begins_from_the_weights_of_its_own_backbone(
    images: Path, published: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = asked(images, f"backbone={','.join(SMALL)}", ensemble__weights="imagenet")
    store = Store(request.storage)
    monkeypatch.setattr(searching, "terms_of", bare_terms)
    plan, _, terms = searching._planned(request, store, store.run("one"), lambda event: None)
    found = {(task.spec.backbone, task.spec.weights) for one in request.trials() for task in plan.tasks(one)}
    assert found == set(published.items())
    assert all(store.files.exists(store.weights(digest)) for digest in published.values())
    assert terms.settled.weights == {f"{name} imagenet": digest for name, digest in published.items()}


@pytest.mark.parametrize("base", ["resnet18", "conv4"])
def test_a_file_that_fits_one_of_the_backbones_is_refused_up_front(images: Path, base: str) -> None:
    """Whichever of them the launch's own flag names."""
    file = saved(images.parent, "conv4")
    request = asked(images, "backbone=conv4,resnet18", ensemble__weights=file, ensemble__backbone=base)
    with pytest.raises(UsageError, match="--weights don't fit resnet18"):
        JOB.check(request)


def test_a_file_that_fits_what_is_searched_need_not_fit_what_is_not(images: Path) -> None:
    file = saved(images.parent, "conv4")
    request = asked(images, "backbone=conv4", ensemble__weights=file, ensemble__backbone="resnet18")
    checked = JOB.check(request)
    assert checked == {"conv4": backbones.state_digest(backbones.read_state(Path(file)))}


def test_a_plan_counts_what_the_store_has_where_all_weights_are_known(
    images: Path, published: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = asked(images, "backbone=conv4,shufflenet_v2_x0_5")
    store = Store(plain.storage)
    monkeypatch.setattr(searching, "terms_of", bare_terms)
    searching._planned(plain, store, store.run("one"), lambda event: None)
    found = JOB.preview(plain, store, JOB.check(plain))
    assert (found["at_most"], found["in_store"]) == (8, 0)
    fetched = asked(images, f"backbone={','.join(SMALL)}", ensemble__weights="imagenet", name="two")
    assert "ImageNet's weights are fetched" in JOB.preview(fetched, store, JOB.check(fetched))["sentence"]
