"""One local Ray head for all tests that need a cluster, and the real command line to use it with.

`-p tests.cli` in pyproject.toml makes the fixtures known everywhere.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.forks import Server

MUSTER = Path(sys.executable).parent / "muster"


#: Fixtures that stand for a Ray cluster: a test that asks for one, directly or by another, is no quick one.
CLUSTERS = {"muster", "head", "cluster", "launched", "user", "odd_folder", "two_gpus"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if CLUSTERS & set(getattr(item, "fixturenames", ())):
            item.add_marker("cluster")


@dataclass
class Ran:
    """A finished command."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@dataclass
class Muster:
    """The command line, with the tests' own state folder and cache."""

    env: dict[str, str]
    server: Server | None = None
    "Whose forks the commands are; None: each begins with Python."

    def __call__(self, *args: object, code: int | None = 0, timeout: float = 240) -> Ran:
        words = list(map(str, args))
        if self.server is not None:
            ran = Ran(*self.server.run(words, self.env, timeout))
        else:
            done = subprocess.run(
                [str(MUSTER), *words],
                env=self.env,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
            ran = Ran(done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in ran.err, ran.err
        if code is not None:
            assert ran.code == code, f"exit code {ran.code}, wanted {code}\n{ran.out}\n{ran.err}"
        return ran

    def start(self, *args: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(MUSTER), *map(str, args)],
            env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            preexec_fn=_heeding_signals,  # noqa: PLW1509
        )  # fmt: skip


def _heeding_signals() -> None:
    """Whoever runs the tests in the background, or below nohup, has some ignored, and children would inherit that."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture(scope="session")
def muster_without_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Muster]:
    """For commands that must not need one: they are many, and quick."""
    home = tmp_path_factory.mktemp("muster")
    places = {"MUSTER_STATE_DIR": str(home / "state"), "MUSTER_CACHE": str(home / "cache")}
    env = {**os.environ, **places, "COLUMNS": "80", "RAY_USAGE_STATS_ENABLED": "0"}
    server = Server(home, env)
    yield Muster(env, server)
    server.stop()


@pytest.fixture(scope="session")
def muster(muster_without_cluster: Muster) -> Iterator[Muster]:
    """With a local head that is up for the whole session: 2 CPUs, whatever the machine has."""
    found = Muster(muster_without_cluster.env)
    found("cluster", "up", "--num-cpus", 2)
    yield found
    found("cluster", "down", "--yes")


def recorded_with(muster: Muster, folder: Path, **fields: object) -> Muster:
    """The same head, as if it had been started otherwise: with another interpreter, or with GPUs."""
    state = shutil.copytree(muster.env["MUSTER_STATE_DIR"], folder / "state")
    (record,) = state.glob("head-*.json")
    record.write_text(json.dumps({**json.loads(record.read_text()), **fields}))
    return Muster({**muster.env, "MUSTER_STATE_DIR": str(state)})


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 classes of 8 real JPEG files, 24 px: a class is a colour and a direction of stripes."""
    root = tmp_path_factory.mktemp("images") / "shapes"
    rng = np.random.default_rng(7)
    for number in range(24):
        folder = root / f"class {number:02d}"
        folder.mkdir(parents=True)
        colour = np.array([number % 3, number // 3 % 3, number // 9 % 3]) * 90 + 30
        wave = np.indices((24, 24))[number % 2]
        for image in range(8):
            stripes = 40 * np.sin(wave * (0.4 + 0.1 * (number % 5)) + image)
            pixels = colour + stripes[..., None] + rng.normal(0, 70, (24, 24, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{image}.jpg", quality=95)
    return root


@pytest.fixture(scope="session")
def pictures(shapes: Path) -> tuple[object, ...]:
    """Flags of that data set and of a small network."""
    return ("--dataset", "folder", "--data-root", shapes, "--image-size", 24, "--backbone", "conv4")


@pytest.fixture(scope="session")
def small(shapes: Path) -> list[object]:
    """Flags of a launch that trains a member in a second."""
    return [
        "launch", "dreml", "--dataset", "folder", "--data-root", shapes, "--image-size", 24, "--backbone", "conv4",
        "--D", 4, "--epochs", 2, "--set", "batch_size=16", "--set", "lr=0.02", "--no-floors",
    ]  # fmt: skip


@pytest.fixture
def until() -> Callable[..., Any]:
    """Waits until something is true, at most so long; its value."""

    def wait(condition: Callable[[], Any], seconds: float = 180) -> Any:
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < deadline, "waited too long"
            time.sleep(0.05)
        return value

    return wait


def interrupt(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)
