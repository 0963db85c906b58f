"""A line with how many files were seen, while a command looks at many; none where they are few, or nobody watches."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from muster.orchestrator.cli import app
from muster.orchestrator.console import watching


def shown(monkeypatch: pytest.MonkeyPatch, few: int, *words: str, terminal: bool = True) -> str:
    """What a command draws on standard error, where so many files are few."""
    drawn = io.StringIO()
    monkeypatch.setattr(watching, "err", Console(file=drawn, force_terminal=terminal, width=80))
    monkeypatch.setattr(watching, "FEW", few)
    monkeypatch.setattr(watching, "STEP", 1)
    assert CliRunner().invoke(app.app, list(words)).exit_code == 0
    return drawn.getvalue()


@pytest.fixture
def launch(image_folder: Path, tmp_path: Path) -> list[str]:
    small = ["--D", "2", "--backbone", "conv4", "--image-size", "16", "--storage", str(tmp_path / "store")]
    return ["launch", "dreml", "--dataset", "folder", "--data-root", str(image_folder), *small, "--dry-run"]


def test_checks_and_dry_runs_show_how_far_they_have_looked(
    monkeypatch: pytest.MonkeyPatch, image_folder: Path, launch: list[str]
) -> None:
    for words in (["data", "check", "folder", "--root", str(image_folder)], launch):
        text = shown(monkeypatch, 5, *words)
        assert " files seen" in text
        assert " pictures opened" in text


def test_few_files_and_no_terminal_show_nothing(monkeypatch: pytest.MonkeyPatch, image_folder: Path) -> None:
    words = ["data", "check", "folder", "--root", str(image_folder)]
    assert shown(monkeypatch, 50, *words) == ""
    assert shown(monkeypatch, 5, *words, terminal=False) == ""


def test_rows_of_a_table_are_counted_too(
    monkeypatch: pytest.MonkeyPatch, image_folder: Path, tmp_path: Path
) -> None:
    paths = sorted(path.relative_to(image_folder).as_posix() for path in image_folder.rglob("*.jpg"))
    table = tmp_path / "items.csv"
    table.write_text("path,label\n" + "".join(f"{path},{path[:8]}\n" for path in paths))
    words = ["data", "check", "table", "--root", str(image_folder), "--list", str(table)]
    assert " rows read" in shown(monkeypatch, 5, *words)
