"""A store in an object store behind a bad network: gone for a while, slow, failing each third call. The runs in it are
the same as on a good disk, and no secret is in any of their files or messages."""

from __future__ import annotations

import io
import re
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from muster.workers.store import files as files_module
from muster.workers.store.files import Files
from muster.workers.store.layout import Store
from muster.workers.store.patience import PATIENCE
from tests.cli import Muster, Ran
from tests.conftest import reached_at, s3_server
from tests.drills.conftest import Struck
from tests.drills.flaky import Proxy, proxied
from tests.drills.test_kills import processes
from tests.drills.test_refusing_disks import calm, launch
from tests.orchestrator.bare import BareMuster, bare_muster

__all__ = ["bare_muster", "calm", "launch"]
KEY, SECRET = "AKIAMUSTERDRILL", "SecretOfTheDrill0123456789"
#: Seconds for which the server is gone.
SHORT, LONG = 3.0, 30.0


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    """The port of an S3 server on loopback with a bucket."""
    with s3_server(KEY, SECRET) as port:
        yield port


@pytest.fixture
def proxy(server: int) -> Iterator[Proxy]:
    with proxied(server) as found:
        yield found


@pytest.fixture
def far(proxy: Proxy, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty store behind the proxy."""
    monkeypatch.setenv(PATIENCE, "60")
    name = re.sub(r"\W", "-", request.node.name)
    return address(proxy.port, name)


def address(port: int, place: str) -> str:
    """Of a place in the bucket of a server at this port, or of a proxy before it."""
    return f"s3://bucket/{place}?{urllib.parse.urlencode(reached_at(port))}"


def the_same(calm: tuple[Path, Any], far: str, answer: Any) -> None:
    """The answer, the shard and the weights of an undisturbed run on a disk."""
    assert answer["curve"] == calm[1]["curve"]
    assert answer["models"]["failed"] == 0
    store, near = Store(far), Store(str(calm[0]))
    run = store.run("one")
    assert run.spoilt(run.record()) == []
    shard = "gathered/test/part-00000.parquet"
    found, kept = (table(one, one.run("one") / shard) for one in (store, near))
    assert found.equals(kept)
    for key in near.files.names("models"):
        mine, theirs = (weights_of(one, key) for one in (store, near))
        assert mine == theirs


def table(store: Store, name: str) -> Any:
    return pq.read_table(io.BytesIO(store.files.get(name)))


def weights_of(store: Store, key: str) -> str:
    done = store.model(key).done()
    assert done is not None
    return done.files[f"attempts/{done.facts['attempt']}/weights.safetensors"].sha256


def without_secrets(far: str, said: list[Ran]) -> None:
    """Neither key is in any file of the store, or in what the commands printed."""
    store = Store(far)
    texts = [store.files.get(f"runs/{name}") for name in store.files.below("runs")]
    models = [name for name in store.files.below("models") if name.endswith(".json")]
    texts += [store.files.get(f"models/{name}") for name in models]
    texts += [(ran.out + ran.err).encode() for ran in said]
    assert len(texts) > 10
    for secret in (KEY, SECRET):
        assert not any(secret.encode() in text for text in texts)


@pytest.mark.long
@pytest.mark.drill("b: an object store that is slow, or fails each third call")
@pytest.mark.parametrize("mode", ["third", "slow"])
def test_a_bad_network_changes_nothing(
    bare_muster: BareMuster,
    launch: list[object],
    calm: tuple[Path, Any],
    proxy: Proxy,
    far: str,
    mode: str,
    struck: Struck,
) -> None:
    """Launched small, reused, evaluated."""
    smaller = [1 if before == "--L" else word for before, word in zip(["", *launch], launch, strict=False)]
    if mode == "third":
        proxy.mode = mode
    said = [bare_muster(*smaller, "--storage", far)]
    said.append(bare_muster(*["two" if word == "one" else word for word in launch], "--storage", far))
    proxy.mode = mode
    said.append(bare_muster("resume", "one", "--storage", far, "--json"))
    said.append(bare_muster("status", "one", "--storage", far, "--json"))
    said.append(bare_muster("evaluate", "one", "--storage", far, "--json"))
    assert proxy.faults > 20
    struck.faults = proxy.faults
    proxy.mode = "fine"
    assert said[0].document["models"]["trained"] == 1
    assert said[1].document["models"] == {"asked": 2, "reused": 1, "trained": 1, "failed": 0}
    assert said[1].document["curve"] == calm[1]["curve"]
    assert said[4].document["curve"] == calm[1]["curve"][:1] == said[2].document["curve"]
    without_secrets(far, said)


@pytest.mark.drill("b: an object store that is gone for a while")
@pytest.mark.parametrize(
    ("when", "seconds"),
    [
        ("attempts", SHORT),
        *(pytest.param(when, LONG, marks=pytest.mark.long) for when in ("embeddings", "gathered", "events")),
    ],
)
def test_a_server_that_is_gone_for_a_while_in_the_middle(
    bare_muster: BareMuster,
    launch: list[object],
    calm: tuple[Path, Any],
    proxy: Proxy,
    far: str,
    when: str,
    seconds: float,
    monkeypatch: pytest.MonkeyPatch,
    struck: Struck,
) -> None:
    put = files_module.Files.put

    def noticed(files: Files, name: str, data: bytes) -> None:
        if when in name and not proxy.faults and proxy.mode == "fine":
            proxy.gone_for(seconds)
        put(files, name, data)

    monkeypatch.setattr(files_module.Files, "put", noticed)
    ran = bare_muster(*launch, "--storage", far)
    assert proxy.faults > 0
    struck.faults = 1
    the_same(calm, far, ran.document)
    without_secrets(far, [ran])


@pytest.mark.long
@pytest.mark.drill("b: an object store that stays away; a resume")
def test_a_server_that_stays_away_ends_the_job_and_a_resume_goes_on(
    bare_muster: BareMuster,
    launch: list[object],
    calm: tuple[Path, Any],
    proxy: Proxy,
    far: str,
    struck: Struck,
) -> None:
    struck.faults = 1
    put = files_module.Files.put

    def noticed(files: Files, name: str, data: bytes) -> None:
        if "embeddings" in name:
            proxy.mode = "gone"
        put(files, name, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files_module.Files, "put", noticed)
        patch.setenv(PATIENCE, "0")
        ran = bare_muster(*launch, "--storage", far, code=None)
    assert ran.code == 2, ran.err
    assert "s3://bucket/" in ran.err
    assert "Check --storage" in ran.err
    proxy.mode = "fine"
    again = bare_muster("resume", "one", "--storage", far, "--json")
    the_same(calm, far, again.document)
    without_secrets(far, [ran, again])


@pytest.mark.long
@pytest.mark.drill("b: a cluster on an object store: gone for 30 s, the driver killed, a resume")
def test_the_whole_of_it_on_a_cluster(
    muster: Muster,
    small: list[object],
    proxy: Proxy,
    far: str,
    tmp_path: Path,
    until: Callable[..., Any],
    struck: Struck,
) -> None:
    """Launched small, reused, its server gone, its driver killed, resumed, evaluated, its report read."""
    struck.faults = 2
    there = Muster({**muster.env, "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET})
    longer = [12 if before == "--epochs" else word for before, word in zip(["", *small], small, strict=False)]
    words = [*longer, "--json", "--storage"]
    near = muster(*words, tmp_path, "--L", 3).document
    said = [there(*words, far, "--name", "less", "--L", 1)]
    store = Store(far)
    process = there.start(*words, far, "--name", "one", "--L", 3)
    until(lambda: any("epoch-" in name for name in store.files.below("models")))
    proxy.gone_for(LONG)
    until(lambda: proxy.mode == "fine")
    until(lambda: len([name for name in store.files.names("models") if store.model(name).done()]) >= 2)
    for driver in processes(there, "muster.orchestrator.jobs.entry launch"):
        driver.kill()
    out, err = process.communicate(timeout=240)
    assert process.returncode == 1, err
    said.append(Ran(process.returncode, out, err))
    for command in ("resume", "evaluate", "status"):
        said.append(there(command, "one", "--storage", far, "--json"))
    assert said[2].document["models"]["failed"] == 0
    assert said[2].document["curve"] == said[3].document["curve"] == near["curve"]
    for key in Store(str(tmp_path)).files.names("models"):
        assert weights_of(store, key) == weights_of(Store(str(tmp_path)), key)
    assert b"<html" in store.files.get("runs/one/report.html")
    without_secrets(far, said)
