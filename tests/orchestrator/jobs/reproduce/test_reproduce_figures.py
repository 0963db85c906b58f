"""The papers' figures through the real command line, rehearsed on glyphs with real members."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from tests.cli import Muster


def rehearse(figure: str, store: Path) -> list[object]:
    return ["reproduce", figure, "--datasets", "glyphs", "--scale", 0.01, "--storage", store]


def test_a_figure_is_drawn_and_drawn_again_without_training(muster: Muster, tmp_path: Path) -> None:
    command = rehearse("dreml-fig5", tmp_path)
    answer = muster(*command, "--json", timeout=500).document
    assert answer["models"] == {"asked": 3, "reused": 0, "trained": 3, "failed": 0}
    (target,) = answer["targets"]
    assert target["state"] == "done"
    files = {Path(name).suffix: Path(name) for name in target["files"]}
    assert files[".svg"].stat().st_size > 10_000
    assert Image.open(files[".png"]).width == 1600
    rows = list(csv.DictReader(files[".csv"].open()))
    for D, networks in (("4", "1"), ("2", "1"), ("2", "2")):  # 4 classes are left of 96
        mine = [row for row in rows if (row["D"], row["networks"]) == (D, networks)]
        assert (
            sum(int(row["count"]) for row in mine) == 3200
        )  # every test image, and no class was cut of those
    (sheet,) = target["sheets"]
    assert sheet["note"].startswith("REHEARSAL at scale 0.01")
    assert len(sheet["finding"]) == 2
    again = muster(*command)
    assert "3 of 3 members (0 trained, 3 reused)" in " ".join(again.out.split())
    assert sheet["finding"][0] in " ".join(again.out.split())


@pytest.mark.long
def test_figures_share_their_members(muster: Muster, tmp_path: Path) -> None:
    asked, trained = {}, {}
    for figure in ("dreml-fig3", "dreml-fig4", "dreml-fig6"):
        answer = muster(*rehearse(figure, tmp_path), "--json", timeout=500).document
        assert answer["state"] == "done", json.dumps(answer)
        asked[figure], trained[figure] = answer["models"]["asked"], answer["models"]["trained"]
        assert {Path(name).suffix for name in answer["targets"][0]["files"]} == {
            ".svg",
            ".png",
            ".csv",
            ".json",
        }
    # Of 4 classes left, every D is 2 and every ensemble the same two networks.
    assert asked == dict.fromkeys(asked, 2)
    assert trained == {"dreml-fig3": 2, "dreml-fig4": 0, "dreml-fig6": 0}


def test_a_figure_without_data_is_refused_before_anything_starts(
    muster_without_cluster: Muster, tmp_path: Path
) -> None:
    where = ["--data-root", tmp_path, "--storage", tmp_path / "store"]
    ran = muster_without_cluster("reproduce", "dreml-fig4", *where, code=2)
    assert "no data at" in ran.err
    assert not (tmp_path / "store" / "runs").exists()
