"""The local head need not be this installation's: it may have been started from another checkout, or from one that
is gone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cli import Muster, recorded_with


def test_a_head_whose_installation_is_gone_is_told(
    muster: Muster, small: list[object], tmp_path: Path
) -> None:
    other = recorded_with(muster, tmp_path, python=str(tmp_path / "gone/bin/python"))
    err = other(*small, "--L", 1, "--storage", tmp_path / "store", code=2).err
    assert "gone/bin/python, which is gone" in err
    assert "muster cluster down" in err


@pytest.mark.long
def test_a_head_of_another_installation_gets_our_code_with_the_job(
    muster: Muster, small: list[object], tmp_path: Path
) -> None:
    """The other one is this environment under another name, whose interpreter the job then runs with."""
    (tmp_path / "environment").symlink_to(Path(sys.prefix))
    other = recorded_with(muster, tmp_path, python=str(tmp_path / "environment/bin/python"))
    answer = other(*small, "--L", 1, "--storage", tmp_path / "store", "--json").document
    assert answer["models"] == {"asked": 1, "reused": 0, "trained": 1, "failed": 0}
