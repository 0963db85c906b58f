"""A launch from where users really stand: folders with blanks and umlauts, `uv run`, a shell set up for something
else; and what the store that it made answers when it can only be read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import ROOT
from tests.cli import Muster, Ran

UV = Path(sys.executable).parent / "uv"
HOSTILE = {
    "RAY_grpc_enable_http_proxy": "1",
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
    "RAY_USE_TLS": "1",
    "RAY_TLS_SERVER_CERT": "/nowhere",
    "RAY_TLS_SERVER_KEY": "/nowhere",
    "RAY_TLS_CA_CERT": "/nowhere",
    "RAY_ADDRESS": "192.0.2.1:6379",
    "RAY_RUNTIME_ENV_HOOK": "nowhere.hook",
    "BASH_ENV": "/nowhere",
}


@pytest.fixture(scope="module")
def odd_folder() -> Iterator[Path]:
    """A folder with a blank and letters that are not ASCII in its path."""
    with tempfile.TemporaryDirectory(prefix="a clone ü ") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def flags(odd_folder: Path, small: list[object], shapes: Path) -> list[str]:
    images = shutil.copytree(shapes, odd_folder / "my pictures é")
    return [str(images if flag == shapes else flag) for flag in small]


@pytest.fixture(scope="module")
def launched(odd_folder: Path, flags: list[str]) -> Ran:
    """A launch of a clone in that folder, by an environment that lies there too, with its HOME and store there."""
    clone, environment = odd_folder / "clone", odd_folder / "environment"
    for name in ("src", "orchestrator", "workers", "cluster"):
        shutil.copytree(ROOT / name, clone / name, symlinks=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    site = next(environment.glob("lib/python3*/site-packages"))
    site.rmdir()
    site.symlink_to(next(Path(sys.prefix).glob("lib/python3*/site-packages")))
    home = odd_folder / "home of mine"
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MUSTER_")}
    env = {**kept, **HOSTILE, "HOME": str(home), "PYTHONPATH": str(clone / "src"), "COLUMNS": "80"}
    command = [environment / "bin/python", "-m", "muster", *flags, "--L", "1", "--name", "odd", "--json"]
    done = subprocess.run(
        [UV, "run", "--no-project", "--", *map(str, command), "--storage", odd_folder / "the store"],
        env=env, cwd=clone, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return Ran(done.returncode, done.stdout, done.stderr)


def test_a_clone_in_a_folder_with_a_blank_and_an_umlaut_launches_below_uv_run(
    launched: Ran, odd_folder: Path
) -> None:
    assert launched.document["models"] == {"asked": 1, "reused": 0, "trained": 1, "failed": 0}
    assert launched.document["paths"]["report"] == str(odd_folder / "the store/runs/odd/report.html")
    assert Path(launched.document["paths"]["report"]).exists()
    state = odd_folder / "home of mine/.local/state/muster"
    assert [path.suffix for path in state.iterdir()] == [".lock"]  # the head is gone, and so is its record


def test_a_shell_that_was_set_up_for_another_cluster_is_kept_out_and_told(launched: Ran) -> None:
    (line,) = [line for line in launched.err.splitlines() if line.startswith("Not passed on")]
    assert all(name in line for name in HOSTILE if not name.endswith("proxy") or name.startswith("RAY_"))
    assert "http_proxy" not in line.replace("grpc_enable_http_proxy", "")


class Reader(Muster):
    """The command line, held to the rights that files have: root has to be told to be."""

    def __call__(self, *args: object, code: int | None = 0, timeout: float = 60) -> Ran:
        bound = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"] if os.getuid() == 0 else []
        done = subprocess.run(
            [*bound, sys.executable, "-m", "muster", *map(str, args)],
            env=self.env, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def reader(odd_folder: Path, launched: Ran) -> Iterator[Reader]:
    """Somebody who may read the store and not write to it."""
    home = odd_folder / "home of another"
    places = {"HOME": home, "MUSTER_STATE_DIR": home / "state", "MUSTER_CACHE": home / "cache"}
    folders = [Path(folder) for folder, _, _ in os.walk(odd_folder / "the store")]
    for folder in folders:
        folder.chmod(0o555)
    yield Reader({**os.environ, **{name: str(place) for name, place in places.items()}, "COLUMNS": "80"})
    for folder in folders:
        folder.chmod(0o755)


def test_a_store_that_can_only_be_read_answers_all_that_it_holds(
    reader: Muster, flags: list[str], odd_folder: Path
) -> None:
    where = ["--storage", odd_folder / "the store"]
    again = reader(*flags, "--L", 1, "--name", "odd", *where, "--json")
    assert again.document["models"] == {"asked": 1, "reused": 1, "trained": 0, "failed": 0}
    assert "Starting" not in again.err
    assert reader(*flags, "--L", 1, *where, "--dry-run", "--json").document["to_train"] == 0
    more = reader(*flags, "--L", 2, *where, "--dry-run")
    assert "1 in the store, 1 to train" in more.out
    assert "A launch would be refused" in " ".join(more.out.split())
    unpacked = reader(*flags, "--image-size", 32, "--L", 1, *where, "--dry-run")
    assert "A launch would be refused" in " ".join(unpacked.out.split())
    assert reader("runs", *where, "--json").document[0]["state"] == "done"
    assert reader("status", "odd", *where, "--json").document["done"] == 1


def test_what_must_be_trained_for_a_store_that_can_only_be_read_is_refused_before_a_head(
    reader: Muster, flags: list[str], odd_folder: Path
) -> None:
    ran = reader(*flags, "--L", 2, "--storage", odd_folder / "the store", code=2)
    assert f"Can't write {odd_folder / 'the store'} (store)" in ran.err
    assert "Starting" not in ran.err


@pytest.fixture
def store_of_many(odd_folder: Path, launched: Ran) -> Iterator[Path]:
    """The store with entries beside the good ones that others made and closed: two runs, a log and a model."""
    store = odd_folder / "the store"
    (store / "runs").chmod(0o755)
    (store / "models").chmod(0o755)
    closed, deep, model = store / "runs/closed", store / "runs/deep", store / "models/00closed"
    for copy in (closed, deep):
        shutil.copytree(store / "runs/odd", copy)
    model.mkdir()
    log = next((deep / "logs").iterdir())
    shutil.copy(log, log.with_name("0" * 32 + "-closed.log"))
    shut = [closed, next((store / "runs/deep/events").iterdir()), log, model]
    for path in shut:
        path.chmod(0o000)
    yield store
    for path in shut:
        path.chmod(0o755)
    for folder in (closed, deep):
        subprocess.run(["chmod", "-R", "u+w", folder], check=True)
        shutil.rmtree(folder)
    model.rmdir()


def test_an_entry_that_cant_be_read_hides_no_other(
    reader: Muster, flags: list[str], store_of_many: Path
) -> None:
    rows = reader("runs", "--storage", store_of_many, "--json").document
    states = {row["run"]: row["state"] for row in rows}
    assert states == {"closed": "unreadable", "deep": "unreadable", "odd": "done"}
    shown = reader("runs", "--storage", store_of_many).out
    assert "unreadable" in shown
    assert "Can't read" in reader("status", "closed", "--storage", store_of_many, code=2).err
    more = reader(*flags, "--D", 5, "--L", 1, "--storage", store_of_many, "--dry-run", "--json").document
    assert more["device_seconds"] > 0  # measured on the model that can be read


@pytest.mark.cluster
def test_a_terminal_that_is_killed_leaves_its_job_and_no_head(
    muster_without_cluster: Muster, small: list[object], tmp_path: Path, until: Callable[..., object]
) -> None:
    muster = Muster({**muster_without_cluster.env, "MUSTER_STATE_DIR": str(tmp_path / "state")})
    process = muster.start(*small, "--L", 1, "--storage", tmp_path / "store", "--name", "left")
    until(lambda: list(tmp_path.glob("store/models/*/attempts")), 120)
    process.kill()
    process.communicate()
    (record,) = (tmp_path / "state").glob("head-*.json")
    home = Path(json.loads(record.read_text())["temp_dir"])
    until(
        lambda: (
            muster("status", "left", "--storage", tmp_path / "store", "--json").document["state"] == "done"
        ),
        120,
    )
    until(lambda: not record.exists(), 30)
    assert not home.exists()
