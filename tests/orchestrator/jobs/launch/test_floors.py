"""What is found without training stands beside what an ensemble finds: in its answer, its table and its report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muster.workers.methods.floor.settings import FloorSpec
from muster.workers.packs.pack import open_pack
from muster.workers.store.layout import Store
from tests.orchestrator.bare import BareMuster, bare_muster

__all__ = ["bare_muster"]

KEYS = {
    "pixels": FloorSpec(of="pixels").key,
    "network": FloorSpec(of="network", backbone="conv4").key,
}


@pytest.fixture
def words(image_folder: Path, tmp_path: Path) -> list[str]:
    where = ["--data-root", str(image_folder), "--storage", str(tmp_path / "store"), "--name", "one"]
    small = ["--D", "2", "--L", "2", "--epochs", "1", "--backbone", "conv4", "--image-size", "48"]
    return ["launch", "dreml", "--dataset", "folder", *where, *small]


def kept_scores(root: Path, floor: str) -> list[Path]:
    return list((root / f"store/models/{KEYS[floor]}").glob("embeddings/*/scores.json"))


def pictures(store: Path) -> tuple[np.ndarray, np.ndarray]:
    """The test images as the view shows them, float64 [n, 3, 48, 48], and their labels."""
    root = Store(str(store))
    found = [(path.name, root.pack(path.name).done()) for path in (store / "packs").iterdir()]
    (digest,) = (name for name, done in found if done is not None and done.facts["split"] == "test")
    pack = open_pack(root.pack(digest), digest, store / "cache")
    images = np.stack([np.asarray(pack.image(row)) for row in pack.index.part(None).rows])
    return images.transpose(0, 3, 1, 2) / 255.0, pack.index.part(None).labels


def recall_at_1(vectors: np.ndarray, labels: np.ndarray) -> float:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    alike = unit @ unit.T
    np.fill_diagonal(alike, -2)
    return float((labels[alike.argmax(axis=1)] == labels).mean())


def test_a_launch_says_what_is_found_without_training(
    bare_muster: BareMuster, words: list[str], tmp_path: Path
) -> None:
    answer = bare_muster(*words, "--json").document
    found = {floor["name"]: floor["curve"] for floor in answer["floors"]}
    assert list(found) == ["pixels", "network"]
    for curve in found.values():
        assert [row["L"] for row in curve] == [1]
        assert set(curve[0]) == set(answer["curve"][0])
    assert answer["models"] == {"asked": 2, "reused": 0, "trained": 2, "failed": 0}
    run = tmp_path / "store/runs/one"
    logs = bare_muster("logs", "one", "--storage", tmp_path / "store", "--json").document
    assert [log["log"].split(",")[0] for log in logs] == ["member 1", "member 2"]
    assert json.loads((run / "metrics.json").read_text())["splits"]["test"]["floors"] == answer["floors"]
    report = (run / "report.html").read_text()
    shown = bare_muster(*words).out
    for name, curve in found.items():
        share = f"{100 * curve[0]['recall_at_1']:.1f}"
        (line,) = [line.split() for line in shown.splitlines() if line.split()[:1] == [name]]
        assert line[1] == share
        assert name in report
    assert "shrunk to 32 x 32" in report
    assert max(map(len, shown.splitlines()[:12])) <= 80


def test_the_floor_of_the_pixels_is_the_correlation_of_small_pictures(
    bare_muster: BareMuster, words: list[str], tmp_path: Path
) -> None:
    answer = bare_muster(*words, "--json").document
    images, labels = pictures(tmp_path / "store")
    weights = np.zeros((32, 48))  # 48 pixels to 32 means over areas: each of one pixel and a half
    for row in range(32):
        first, last = row * 48 // 32, -(-(row + 1) * 48 // 32)
        weights[row, first:last] = 1 / (last - first)
    small = np.einsum("ih,nchw,jw->ncij", weights, images, weights)
    mean, std = (
        np.array(numbers)[:, None, None] for numbers in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    numbers = ((small - mean) / std).reshape(len(small), -1)
    numbers -= numbers.mean(axis=1, keepdims=True)
    assert answer["floors"][0]["curve"][0]["recall_at_1"] == pytest.approx(recall_at_1(numbers, labels))


def test_floors_are_made_once_for_a_data_set(
    bare_muster: BareMuster, words: list[str], tmp_path: Path
) -> None:
    first = bare_muster(*words, "--json").document
    (kept,) = kept_scores(tmp_path, "pixels")
    saved = kept.read_bytes()
    attempts = list((tmp_path / f"store/models/{KEYS['network']}/attempts").iterdir())
    other = [word if word != "one" else "other" for word in words]
    second = bare_muster(*other, "--seed", "7", "--json").document
    assert second["floors"] == first["floors"]
    assert kept.read_bytes() == saved
    assert list((tmp_path / f"store/models/{KEYS['network']}/attempts").iterdir()) == attempts
    assert bare_muster(*words, "--json").document["floors"] == first["floors"]  # from the store


@pytest.mark.parametrize("harm", ["emptied", "other", "gone"])
def test_scores_that_are_spoilt_are_computed_again(
    bare_muster: BareMuster, words: list[str], tmp_path: Path, harm: str
) -> None:
    first = bare_muster(*words, "--json").document
    (kept,) = kept_scores(tmp_path, "pixels")
    saved = kept.read_bytes()
    if harm == "gone":
        kept.unlink()
    else:
        kept.write_bytes(
            b"" if harm == "emptied" else saved.replace(b'recall_at_1": 0.', b'recall_at_1": 0.9')
        )
    other = [word if word != "one" else "other" for word in words]
    assert bare_muster(*other, "--json").document["floors"] == first["floors"]
    assert kept.read_bytes() == saved


def test_an_evaluation_shows_them_as_they_were_scored(
    bare_muster: BareMuster, words: list[str], tmp_path: Path
) -> None:
    answer = bare_muster(*words, "--json").document
    again = ["evaluate", "one", "--storage", tmp_path / "store"]
    assert bare_muster(*again, "--json").document["floors"] == answer["floors"]
    assert "pixels" in bare_muster(*again).out
    assert "floors" not in bare_muster(*again, "--recall-at", "3", "--json").document
    for floor in KEYS:
        (kept,) = kept_scores(tmp_path, floor)
        kept.unlink()
    assert "floors" not in bare_muster(*again, "--json").document


def test_they_can_be_left_out_and_asked_for_later(
    bare_muster: BareMuster, words: list[str], tmp_path: Path
) -> None:
    without = bare_muster(*words, "--no-floors", "--json").document
    assert "floors" not in without
    assert not kept_scores(tmp_path, "pixels")
    assert "pixels" not in bare_muster(*words, "--no-floors").out
    later = bare_muster(*words, "--json").document
    assert [floor["name"] for floor in later["floors"]] == ["pixels", "network"]
    assert later["models"]["reused"] == 2
    assert later["curve"] == without["curve"]


def test_a_launch_that_is_no_better_says_so_and_what_to_try(
    bare_muster: BareMuster, words: list[str]
) -> None:
    answer = bare_muster(*words, "--preset", "paper", "--set", "lr=1e-9", "--json").document
    (warning,) = [text for text in answer["warnings"] if "training was worth nothing" in text]
    ours = answer["curve"][-1]["recall_at_1"]
    for floor in answer["floors"]:
        theirs = floor["curve"][0]["recall_at_1"]
        name = {"pixels": "the pixels of the images", "network": "the untrained network"}[floor["name"]]
        assert (f"{name} ({100 * theirs:.1f})" in warning) == (theirs >= ours)
    assert "Train longer, with --preset scratch, or from pretrained --weights." in warning


def test_a_floor_of_pretrained_weights_is_that_networks(
    bare_muster: BareMuster, words: list[str], tmp_path: Path
) -> None:
    import torch

    from muster.workers.networks.backbones import build

    torch.save(build("conv4", 3, 5).state_dict(), tmp_path / "weights.pt")
    answer: dict[str, Any] = bare_muster(*words, "--weights", tmp_path / "weights.pt", "--json").document
    images, labels = pictures(tmp_path / "store")
    mean, std = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    numbers = (images - np.array(mean)[:, None, None]) / np.array(std)[:, None, None]
    network = torch.nn.Sequential(*list(build("conv4", 3, 5).children())[:-1]).eval()
    features = network(torch.from_numpy(numbers).float()).detach().numpy()
    assert [floor["name"] for floor in answer["floors"]] == ["pixels", "network"]
    assert answer["floors"][1]["curve"][0]["recall_at_1"] == pytest.approx(recall_at_1(features, labels))


def test_roles_of_the_same_pictures_have_floors_of_their_own(
    bare_muster: BareMuster, words: list[str], image_folder: Path, tmp_path: Path
) -> None:
    """Which pictures ask is no part of the vectors' key: the same floors' vectors have other scores."""
    listed = sorted(path.relative_to(image_folder) for path in image_folder.rglob("*") if path.is_file())
    classes = sorted({path.parts[0] for path in listed})
    rows = [
        (path, path.parts[0], "test" if path.parts[0] in classes[len(classes) // 2 :] else "train")
        for path in listed
    ]
    asks = {path: number % 2 for number, path in enumerate(listed)}

    def launched(name: str, roles: bool) -> dict[str, Any]:
        table = tmp_path / f"{name}.csv"
        cells = [
            f"{path},{label},{split}"
            + (f",{('query', 'gallery')[asks[path]] if split == 'test' else ''}" if roles else "")
            for path, label, split in rows
        ]
        table.write_text("\n".join(["path,label,split" + (",role" if roles else ""), *cells]))
        where = [
            word if word not in {"folder", "one"} else {"folder": "table", "one": name}[word]
            for word in words
        ]
        answer: dict[str, Any] = bare_muster(*where, "--list", table, "--json").document
        return {floor["name"]: floor["curve"] for floor in answer["floors"]}

    def alone(name: str) -> dict[str, Any]:
        """The same in a store of its own."""
        words[words.index(str(tmp_path / "store"))] = str(tmp_path / "other")
        found = launched(name, roles=True)
        words[words.index(str(tmp_path / "other"))] = str(tmp_path / "store")
        return found

    plain, roles = launched("plain", roles=False), launched("roles", roles=True)
    assert roles == alone("roles")
    assert roles != plain
    assert launched("again", roles=False) == plain
