"""Pictures in an object store behind a bad network, packed by tasks over the cluster: slow, failing each third call,
gone for longer than anybody waits, and with the job killed in the middle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from muster.workers.store.files import Files
from muster.workers.store.layout import Store
from muster.workers.store.patience import PATIENCE
from tests.cli import Muster
from tests.drills.conftest import Struck
from tests.drills.flaky import Proxy
from tests.drills.test_far_stores import KEY, SECRET, address, proxy, server, weights_of
from tests.drills.test_kills import processes

__all__ = ["proxy", "server"]
pytestmark = pytest.mark.long
SIDE = 600


@pytest.fixture(scope="module")
def pictures(server: int, shapes: Path) -> str:
    """The pictures of `shapes` in a bucket: their place in it."""
    files = Files(address(server, "shapes"))
    for path in sorted(shapes.rglob("*.jpg")):
        files.put(path.relative_to(shapes).as_posix(), path.read_bytes())
    return "shapes"


def there(muster: Muster, patience: int) -> Muster:
    return Muster(
        {**muster.env, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, PATIENCE: str(patience)}
    )


def from_far(small: list[object], root: str) -> list[object]:
    return [
        root if before == "--data-root" else word for before, word in zip(["", *small], small, strict=False)
    ]


@pytest.mark.drill("h: pictures in an object store that is slow, or fails each third call")
@pytest.mark.parametrize("mode", ["slow", "third"])
def test_a_bad_network_gives_the_same_members(
    muster: Muster,
    small: list[object],
    pictures: str,
    proxy: Proxy,
    mode: str,
    tmp_path: Path,
    struck: Struck,
) -> None:
    near = muster(*small, "--L", 1, "--storage", tmp_path / "near", "--json").document
    proxy.mode = mode
    words = from_far(small, address(proxy.port, pictures))
    far = there(muster, 60)(*words, "--L", 1, "--storage", tmp_path / "far", "--json", "--name", "far")
    struck.faults = proxy.faults
    assert proxy.faults > 60
    assert far.document["curve"] == near["curve"]
    stores = [Store(str(tmp_path / name)) for name in ("near", "far")]
    (key,) = stores[0].files.names("models")
    assert weights_of(stores[0], key) == weights_of(stores[1], key)
    for path in (tmp_path / "far" / "runs").rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()


@pytest.mark.drill("h: pictures in an object store, gone for good or the job killed in mid-packing; a resume")
@pytest.mark.parametrize("how", ["gone", "killed"])
def test_packing_goes_on_where_it_was_interrupted(
    muster: Muster,
    small: list[object],
    pictures: str,
    proxy: Proxy,
    how: str,
    tmp_path: Path,
    until: Callable[..., Any],
    struck: Struck,
) -> None:
    struck.faults = 1
    proxy.mode = "slow"
    words = [
        *from_far(small, address(proxy.port, pictures)),
        "--L",
        1,
        "--storage",
        tmp_path,
        "--name",
        "far",
    ]
    # Large, so that a task has few pictures.
    process = there(muster, 2).start(*words, "--set", f"recipe.resize=squash:{SIDE}")

    def packed() -> int:
        found = tmp_path.glob("packs/muster-part-*/pixels.bin")  # of train: those of test are small
        return sum(path.stat().st_size for path in found) // (SIDE * SIDE * 3)

    until(lambda: packed() >= 16 or process.poll() is not None)
    if how == "gone":
        proxy.mode = "gone"
    else:
        for driver in processes(muster, "muster.orchestrator.jobs.entry launch"):
            driver.kill()
    _, err = process.communicate(timeout=240)
    assert process.returncode == (2 if how == "gone" else 1), err
    if how == "gone":
        assert "Can't read s3://bucket/shapes/class" in err
    before, proxy.mode = packed(), "fine"
    assert 16 <= before < 96, err
    proxy.got.clear()
    answer = there(muster, 60)("resume", "far", "--storage", tmp_path, "--json").document
    assert answer["models"]["trained"] == 1
    assert len({path for path in proxy.got if path.endswith(".jpg")}) == 96 - before
