"""How muster is installed: from a checkout or a wheel of it. On the package index its name is another project's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import muster
from tests import ROOT
from tests.cli import Muster

TEXTS = [
    path
    for folder in (
        "README.md",
        "Makefile",
        "docs",
        "orchestrator",
        "workers",
        "cluster",
        "benchmarks",
        ".ci",
        "src",
    )
    for path in ([ROOT / folder] if (ROOT / folder).is_file() else sorted((ROOT / folder).rglob("*")))
    if path.is_file()
    and not path.is_symlink()
    and path.suffix in {".py", ".md", ".yaml", ".sh", ".j2", ".toml", ""}
]
OWN = {"muster", "muster-ensembles"}


def installed(text: str) -> list[str]:
    """What each `pip install` of a text installs: its words without flags."""
    found = []
    for command in re.findall(r"pip install ([^\n`]*)", text):
        words = re.split(r"&&|\|\|| in muster's|;", command)[0].split()
        found += [word.strip("'\".,)") for word in words if not word.startswith("-")]
    return found


def test_no_text_tells_anybody_to_install_muster_from_the_package_index() -> None:
    seen = []
    for path in TEXTS:
        for word in installed(path.read_text(errors="replace")):
            seen.append(word)
            assert re.split(r"[\[=<>~!]", word)[0] not in OWN, f"{path}: {word}"
    assert len(seen) > 5  # the search finds them


def test_the_search_would_find_a_command_that_installs_a_strangers_code() -> None:
    for text in (
        "pip install muster",
        "pip install --user 'muster==0.1.0'",
        "run pip install 'muster[optuna]'.",
    ):
        assert any(re.split(r"[\[=<>~!]", word)[0] in OWN for word in installed(text))
    assert not any(word in OWN for word in installed("pip install '.[optuna]' in muster's checkout"))


def test_the_names_of_wheel_and_files_that_mention_it_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wheel = f"{project['name'].replace('-', '_')}-{muster.__version__}-py3-none-any.whl"
    for name in ("Containerfile", "ray-up.yaml"):
        assert wheel in (ROOT / "cluster/manifests" / name).read_text()


@pytest.mark.long
def test_a_wheel_launches_in_an_environment_of_its_own_beside_foreign_packages(
    muster_without_cluster: Muster, small: list[object], tmp_path: Path
) -> None:
    """It borrows the dependencies of this environment, less its editable muster, and runs outside the checkout."""
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    (site,) = (tmp_path / "bare").glob("lib/python3*/site-packages")
    shutil.unpack_archive(wheel, site, "zip")
    here = next(Path(path) for path in sys.path if path.endswith("site-packages"))
    (site / "borrowed.pth").write_text(f"{here}\n")  # its own .pth files are not read: they name the checkout
    for name in ("workers", "cluster"):
        (tmp_path / "foreign" / name).mkdir(parents=True)
        (tmp_path / "foreign" / name / "__init__.py").write_text("raise SystemExit('not ours')\n")
    env = {**muster_without_cluster.env, "PYTHONPATH": str(tmp_path / "foreign")}
    env |= {"MUSTER_STATE_DIR": str(tmp_path / "state")}
    where = subprocess.run(
        [tmp_path / "bare/bin/python", "-c", "import muster.workers as w; print(w.__file__)"],
        env=env, cwd=tmp_path, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert Path(where.strip()).is_relative_to(site)
    done = subprocess.run(
        [tmp_path / "bare/bin/python", "-m", "muster", *map(str, small), "--L", "1", "--storage", tmp_path / "store"],
        env=env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1 of 1 members (1 trained" in done.stdout
    assert os.listdir(tmp_path / "store/models")
