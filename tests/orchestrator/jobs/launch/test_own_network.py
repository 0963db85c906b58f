"""Networks of one's own: their code is part of the key, travels with the job, and is imported when it is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from muster.workers.networks.own_code import copied, digest_of, own_network, with_digest
from tests.cli import Muster
from tests.orchestrator.bare import BareMuster, bare_muster

__all__ = ["bare_muster"]

PACKAGE = {
    "__init__.py": "",
    "parts.py": "WIDTH = 8\n",
    "made.py": """
import pathlib
from torch import nn
from .parts import WIDTH

pathlib.Path("%s").open("a").write("imported\\n")

def small():
    return nn.Sequential(
        nn.Conv2d(3, WIDTH, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(4 * WIDTH, 5),
    )

def unlike():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())

def number():
    return 7

def ends():
    raise SystemExit(0)

size = 3

class Net(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.how, self.conv, self.used, self.z = how, nn.Conv2d(3, 4, 3), nn.Linear(4, 5), nn.Linear(4, 5)

    def forward(self, x):
        pooled = self.conv(x).mean((2, 3))
        found = self.z(pooled)
        if self.how == "key":
            raise KeyError("no such layer")
        if self.how == "exit":
            raise SystemExit(0)
        return {
            "unused": self.used(pooled), "cube": found[:, None], "pair": (found, found), "one": found[:1],
            "nan": found / 0 * 0,
        }[self.how]

class TwoArguments(Net):
    def forward(self, x, y):
        return self.z(x)

unused = lambda: Net("unused")
cube = lambda: Net("cube")
pair = lambda: Net("pair")
one = lambda: Net("one")
nan = lambda: Net("nan")
key = lambda: Net("key")
leaves = lambda: Net("exit")
two = lambda: TwoArguments("")

def broken():
    raise KeyError("no such size")
""",
    "lost.py": "import a_package_that_is_not_there\n",
    "exits.py": "import sys\nsys.exit(7)\n",
}
METHODS = {
    "dreml": ["--D", "2", "--L", "2", "--epochs", "1"],
    "bier": ["--learners", "4,6", "--P", "4", "--K", "2", "--steps", "2"],
    "baseline": ["--loss", "triplet", "--P", "4", "--K", "2", "--epochs", "1"],
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package in the current folder; `imports` beside it has a line for each time that it was imported."""
    folder = tmp_path / "work/nets_of_mine"
    folder.mkdir(parents=True)
    for name, text in PACKAGE.items():
        (folder / name).write_text(text.replace("%s", str(tmp_path / "imports")))
    text = PACKAGE["made.py"].replace("from .parts import WIDTH", "WIDTH = 8")
    (tmp_path / "work/alone.py").write_text(text.replace("%s", str(tmp_path / "imports")))
    monkeypatch.chdir(tmp_path / "work")
    return folder


@pytest.fixture
def words(image_folder: Path, tmp_path: Path) -> list[str]:
    where = [
        "--data-root",
        str(image_folder),
        "--storage",
        str(tmp_path / "store"),
        "--name",
        "one",
        "--json",
    ]
    return ["--dataset", "folder", *where, "--image-size", "32"]


MINE = ["--backbone", "nets_of_mine.made:small"]


@pytest.mark.parametrize("backbone", ["nets_of_mine.made:small", "alone:small"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_them(
    bare_muster: BareMuster, package: Path, words: list[str], tmp_path: Path, method: str, backbone: str
) -> None:
    asked = ["launch", method, *words, *METHODS[method], "--backbone", backbone]
    answer = bare_muster(*asked).document
    assert answer["models"]["failed"] == 0
    saved = json.loads((tmp_path / "store/runs/one/run.json").read_text())
    assert saved["ensemble"]["backbone"] == with_digest(backbone)
    assert bare_muster(*asked).document["models"]["trained"] == 0


def test_other_code_is_another_network(
    bare_muster: BareMuster, package: Path, words: list[str], tmp_path: Path
) -> None:
    asked = ["launch", "dreml", *words, *METHODS["dreml"], *MINE]
    bare_muster(*asked)
    (package / "parts.py").write_text("WIDTH = 6\n")
    ran = bare_muster(*asked, code=2)
    assert "it was asked for otherwise: ensemble.backbone" in ran.err
    assert bare_muster(*[w if w != "one" else "two" for w in asked]).document["models"]["trained"] == 2
    ran = bare_muster("resume", "one", "--storage", tmp_path / "store", *MINE, code=2)
    assert "is not the code that this network was begun with" in ran.err


def test_what_is_not_code_of_the_package_changes_nothing(package: Path) -> None:
    before = with_digest(MINE[1])
    (package / "__pycache__").mkdir(exist_ok=True)
    (package / "__pycache__/made.pyc").write_bytes(b"1")
    (package / ".swp").write_bytes(b"1")
    assert with_digest(MINE[1]) == before
    (package / "table.json").write_text("{}")
    assert with_digest(MINE[1]) != before


@pytest.mark.parametrize("command", ["status", "evaluate", "logs", "resume", "gather", "runs"])
def test_what_a_store_names_is_imported_only_where_it_is_named_again(
    bare_muster: BareMuster, package: Path, words: list[str], tmp_path: Path, command: str
) -> None:
    bare_muster("launch", "dreml", *words, *METHODS["dreml"], *MINE)
    imports = tmp_path / "imports"
    imports.unlink()
    run = [] if command == "runs" else ["one"]
    code = 2 if command in {"resume", "gather"} else 0
    ran = bare_muster(command, *run, "--storage", tmp_path / "store", code=code)
    assert not imports.exists()
    if code:
        assert "name it again: --backbone nets_of_mine.made:small" in ran.err
        bare_muster(command, *run, "--storage", tmp_path / "store", *MINE)


def test_a_teacher_s_code_does_not_travel_and_its_vectors_do(
    bare_muster: BareMuster,
    package: Path,
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bare_muster("launch", "dreml", *words, *METHODS["dreml"], *MINE)
    student = [word if word != "one" else "two" for word in words]
    asked = ["launch", "distill", *student, "--teacher", "one", "--backbone", "conv4", "--P", "4", "--K", "2"]
    monkeypatch.chdir(tmp_path)
    said = "First: muster gather one --split train --backbone nets_of_mine.made:small"
    assert said in bare_muster(*asked, "--epochs", "1", code=2).err
    monkeypatch.chdir(tmp_path / "work")
    bare_muster("gather", "one", "--split", "train", "--storage", tmp_path / "store", *MINE)
    monkeypatch.chdir(tmp_path)
    assert bare_muster(*asked, "--epochs", "1").document["models"]["trained"] == 1


BAD = {
    "no such package": ("nets_of_yours:small", ["there is no package or module nets_of_yours in "]),
    "no such module": ("nets_of_mine.other:small", ["can't be imported", "nets_of_mine.other"]),
    "fails on import": ("nets_of_mine.lost:small", ["can't be imported", "a_package_that_is_not_there"]),
    "no such function": ("nets_of_mine.made:large", ["nets_of_mine.made has no function large"]),
    "no linear layer": (
        "nets_of_mine.made:unlike",
        ["nets_of_mine.made:unlike has no linear layer", "nn.Linear"],
    ),
    "no network": ("nets_of_mine.made:number", ["number() gives a int, and no torch.nn.Module"]),
    "fails": ("nets_of_mine.made:broken", ["broken() fails: KeyError", "no such size"]),
    "no callable": ("nets_of_mine.made:size", ["has no function size, it is a int there"]),
    "exits on import": ("nets_of_mine.exits:small", ["can't be imported", "it ends the process (sys.exit)"]),
    "exits when it is built": ("nets_of_mine.made:ends", ["ends() fails: it ends the process"]),
    "exits on pictures": (
        "nets_of_mine.made:leaves",
        ["can't take pictures of 32 px", "it ends the process"],
    ),
    "raises anything": (
        "nets_of_mine.made:key",
        ["can't take pictures of 32 px", "KeyError", "no such layer"],
    ),
    "takes two": ("nets_of_mine.made:two", ["can't take pictures of 32 px", "TypeError", "'y'"]),
    "another layer is its output": (
        "nets_of_mine.made:unused",
        ["gives [2, 5] for two pictures", "end in that layer"],
    ),
    "a cube": ("nets_of_mine.made:cube", ["gives [2, 1, 13] for two pictures"]),
    "a pair": ("nets_of_mine.made:pair", ["gives a tuple for a batch of pictures"]),
    "one row": ("nets_of_mine.made:one", ["gives [1, 13] for two pictures"]),
    "no numbers": ("nets_of_mine.made:nan", ["numbers that are not finite before training"]),
    "no name": (
        "nets_of_mine.made:",
        ["There is no backbone 'nets_of_mine.made:'", "written MODULE:FACTORY"],
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_what_can_not_be_built_is_refused(
    bare_muster: BareMuster, package: Path, words: list[str], tmp_path: Path, what: str
) -> None:
    backbone, texts = BAD[what]
    ran = bare_muster("launch", "dreml", *words, *METHODS["dreml"], "--backbone", backbone, code=2)
    for text in texts:
        assert text in " ".join(ran.err.split())
    assert not (tmp_path / "store").exists()


def test_a_package_that_is_too_large_is_refused(
    bare_muster: BareMuster, package: Path, words: list[str]
) -> None:
    with (package / "weights.bin").open("wb") as file:
        file.truncate(17 << 20)
    ran = bare_muster("launch", "dreml", *words, *METHODS["dreml"], *MINE, code=2)
    assert "at most 1,000 files and 16 MiB" in " ".join(ran.err.split())


def test_imagenet_weights_are_refused(bare_muster: BareMuster, package: Path, words: list[str]) -> None:
    ran = bare_muster("launch", "dreml", *words, *METHODS["dreml"], *MINE, "--weights", "imagenet", code=2)
    assert "is a network of your own, without ImageNet weights" in " ".join(ran.err.split())


def test_only_module_and_factory_are_one() -> None:
    assert own_network("timm/resnet18") is None
    assert own_network("resnet18") is None
    assert own_network("a.b:c").asked == "a.b:c"  # type: ignore[union-attr]
    for wrong in ("a:b@12", "a/b:c", "a:b.c", "1a:b", "a..b:c", None, 3):
        assert own_network(wrong) is None


@pytest.mark.parametrize("backbone", ["nets_of_mine.made:small", "alone:small"])
def test_what_travels_is_the_code_and_nothing_else(package: Path, tmp_path: Path, backbone: str) -> None:
    (package / ".git").mkdir()
    (package / ".git/config").write_text("secret")
    (package / ".gitignore").write_text("parts.py\n")
    network = own_network(with_digest(backbone))
    assert network is not None
    copy = copied(network, tmp_path / "away")
    assert digest_of(copy) == network.digest
    assert not list((tmp_path / "away").rglob(".*"))


@pytest.mark.parametrize("backbone", ["nets_of_mine.made:small", "alone:small"])
def test_the_code_travels_with_the_job(
    muster: Muster, package: Path, words: list[str], tmp_path: Path, backbone: str
) -> None:
    answer = muster("launch", "dreml", *words, *METHODS["dreml"], "--backbone", backbone).document
    assert answer["models"]["trained"] == 2
    assert [floor["name"] for floor in answer["floors"]] == ["pixels", "network"]
