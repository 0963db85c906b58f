"""A node's cache is on a disk of its own."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from muster.workers.packs import cache as module
from muster.workers.packs import pack as packs
from muster.workers.packs.cache import cache_folder, network_disk
from muster.workers.store.layout import Store
from tests.workers.packs.made_packs import CountingFolder, build

MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:40 / /home rw,relatime shared:5 - nfs4 server:/home rw,vers=4.2
31 30 0:41 / /home/local rw - xfs /dev/sdb1 rw
32 22 0:42 / /mnt/with\\040blank rw master:1 - fuse.sshfs me@there: rw
33 22 0:43 / /scratch rw - lustre 10.0.0.1@tcp:/scratch rw
a line that is none
"""


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    place = tmp_path / "mountinfo"
    place.write_text(MOUNTS)
    return place


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me/.cache/muster", "nfs4"), ("/home", "nfs4"), ("/homes/me", ""), ("/home/local/me", ""), ("/data", ""),
        ("/mnt/with blank/packs", "fuse.sshfs"), ("/scratch/me", "lustre"),
    ],
)  # fmt: skip
def test_disks_that_are_reached_over_a_network(mounts: Path, path: str, kind: str) -> None:
    assert network_disk(Path(path), mounts) == kind


def test_where_mounts_are_not_told_nothing_is_known(tmp_path: Path) -> None:
    assert network_disk(Path("/home"), tmp_path / "none") == ""


def test_a_shared_home_is_no_place_for_a_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MUSTER_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "muster"
    monkeypatch.setattr(module, "network_disk", lambda path: "nfs4")
    assert cache_folder().name == f"muster-cache-{os.getuid()}"
    monkeypatch.setenv("MUSTER_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"


def test_a_pack_on_a_shared_disk_is_copied_to_the_node_first(
    monkeypatch: pytest.MonkeyPatch, image_folder: Path, store: Store, tmp_path: Path
) -> None:
    digest = build(store, CountingFolder(image_folder)).digest
    folder, cache = store.pack(digest), tmp_path / "cache"
    there = np.array(packs.open_pack(folder, digest, cache).pixels)
    assert not (cache / "packs" / digest / "pixels.bin").exists()
    monkeypatch.setattr(packs, "network_disk", lambda path: "nfs4")
    here = packs.open_pack(folder, digest, cache)
    assert str(here.pixels.filename) == str(cache / "packs" / digest / "pixels.bin")  # type: ignore[attr-defined]
    assert np.array_equal(there, here.pixels)
