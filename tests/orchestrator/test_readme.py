"""The README's commands are run as they stand, in its order; its links and the settings page are checked."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
from pathlib import Path

import pytest

from tests import ROOT
from tests.cli import MUSTER, Muster

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    lines = [line.removeprefix("$ ").partition("  #")[0] for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("muster ")]


def test_every_command_of_the_readme_runs(muster: Muster, shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "images").symlink_to(shapes)
    found = commands()
    assert len(found) >= 12
    for command in found:
        if command == "muster cluster down":  # would end the head that the other tests use
            command += " --help"  # noqa: PLW2901
        done = subprocess.run(
            [str(MUSTER), *shlex.split(command)[1:]],
            env=muster.env, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if not link.startswith("http"):
            assert (page.parent / link.partition("#")[0]).exists(), link


def test_the_settings_page_is_what_the_code_says() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "settings.py"))["page"]
    assert (ROOT / "docs" / "settings.md").read_text() == page(), "run: python docs/settings.py"


def test_the_demo_says_whose_last_digits_the_table_has() -> None:
    shown = subprocess.run(
        ["make", "-n", "demo", "PYTHON=python3"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert "last digits differ" in shown
    told = " ".join((ROOT / "README.md").read_text().split())
    assert "another CPU model rounds differently" in told
    assert "Over seeds 0, 1 and 2" in told
