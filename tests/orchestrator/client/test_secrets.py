"""Secrets of a store's address: taken out before anything keeps it or shows it."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from muster.orchestrator.client.session import saved_run, with_places
from muster.orchestrator.machine import credentials
from muster.orchestrator.machine.credentials import refused, taken_out
from muster.orchestrator.methods.command import launch_command
from muster.workers.errors import StoreError, UsageError
from muster.workers.store.addresses import parse_address
from muster.workers.store.files import Files
from muster.workers.store.layout import Store
from tests.cli import Muster
from tests.conftest import write_classes
from tests.orchestrator.finished_run import finish, request_of

KEY, SECRET = "AKIAPLANTEDKEY", "wJalr/planted+SECRET"
TYPED = f"{KEY}:{SECRET.replace('/', '%2F').replace('+', '%2B')}"
#: In no file and no message, in any of the ways to write it.
SECRETS = (SECRET, TYPED, TYPED.partition(":")[2], "planted+SECRET", "planted%2BSECRET")


def shows(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An environment without credentials, put back afterwards."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "another's")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(credentials, "_typed", set())
    return


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Options of an S3 server of its own, with a bucket."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    where = {"endpoint_override": f"127.0.0.1:{server.get_host_and_port()[1]}", "scheme": "http"}
    keys = {"access_key": "x", "secret_key": "x", "region": "us-east-1"}
    pafs.S3FileSystem(allow_bucket_creation=True, **keys, **where).create_dir("bucket")
    yield "&".join(f"{key}={value}" for key, value in {**where, "region": "us-east-1"}.items())
    server.stop()


def test_keys_of_s3_go_into_the_environment(clean: None) -> None:
    assert taken_out(f"s3://{TYPED}@bucket/a@b/c?region=x") == "s3://bucket/a@b/c?region=x"
    assert (os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]) == (KEY, SECRET)
    assert "AWS_SESSION_TOKEN" not in os.environ
    for place in (
        "s3://bucket/p?region=x",
        "s3://bucket/a@b",
        "s3://bucket:9000/a?region=x",
        "gs://anonymous@bucket/p",
        "abfs://container@account/p",
        "sftp://me@host/p",
        "file:///a:b@c",
        "memory://x",
    ):
        assert taken_out(place) == place == parse_address(place).bare


def test_two_places_with_different_keys_are_refused_as_s3_is_asked_with_one_pair(clean: None) -> None:
    asked = request_of(f"s3://{TYPED}@bucket/p", Path("pictures"))
    asked = replace(asked, data=replace(asked.data, root="s3://OTHERKEY:y@pictures/of"))
    with pytest.raises(
        UsageError, match="s3://pictures/of holds other keys than an address before it"
    ) as caught:
        with_places(asked, None)
    assert shows(str(caught.value)) == []
    assert "OTHERKEY" not in str(caught.value)
    assert os.environ["AWS_ACCESS_KEY_ID"] == KEY
    same = replace(asked, data=replace(asked.data, root=f"s3://{TYPED}@pictures/of"))
    assert with_places(same, None).data.root == "s3://pictures/of"
    bare = replace(asked, data=replace(asked.data, root="s3://pictures/of"))
    assert with_places(bare, None).storage == "s3://bucket/p"


@pytest.mark.parametrize(
    ("place", "cure"),
    [
        (f"s3://{KEY}:{SECRET}@bucket/p", "write / as %2F"),
        (f"s3://{KEY}:w?{SECRET}@bucket/p", r"\? as %3F"),
        (f"s3://{KEY}:w?{SECRET}=@bucket/p?region=x", r"\? as %3F"),
        (f"s3://{KEY}:w?l@bucket/p?region=x&secret_key={SECRET}", r"\? as %3F"),
        (f"s3://{KEY}:{SECRET}?l@bucket/p", r"\? as %3F"),
        (f"sftp://me:12?{SECRET}@host/p", r"\? as %3F"),
        (f"sftp://me:p@w?{SECRET}@host/p", r"\? as %3F"),
        (f"gs://{TYPED.partition(':')[2]}@bucket/p", "GOOGLE_APPLICATION_CREDENTIALS"),
        (f"s3://bucket/p?secret_key={SECRET}", "secret_key. A run's files"),
        (f"s3://bucket/p?region=x&session_token={SECRET}", "session_token"),
        (f"ftp://me:{TYPED}@host/p", "FSSPEC_FTP_PASSWORD"),
        (f"abfs://account:{TYPED}@container/p", "AZURE_STORAGE_"),
        (f"abfss://container/p?sas_token={SECRET}", "sas_token"),
        (f"s3://bucket/p?endpoint_override=http://me:{TYPED}@host", "its endpoint_override"),
        (f"s3://bucket:9000/p?endpoint_override=http://me:{TYPED}@host", "its endpoint_override"),
        (f"s3://bucket/p?endpoint_override=http%3A%2F%2Fme%3A{SECRET}%40host", "endpoint_override"),
    ],
)
def test_other_secrets_are_refused_without_being_shown(place: str, cure: str, clean: None) -> None:
    for refuse in (taken_out, refused):
        with pytest.raises(UsageError) as caught:
            refuse(place)
        assert shows(str(caught.value)) == []
    with pytest.raises(UsageError, match=cure):
        taken_out(place)


@pytest.mark.parametrize(
    "root",
    [
        f"s3://{KEY}:{SECRET}@bucket/p",
        f"s3://bucket/p?secret_key={SECRET}",
        f"s3://{KEY}:{SECRET} x@b",
        f"s3://{KEY}:{SECRET}?l@b",
        f"s3://{KEY}:w?{SECRET}@b/p",
        f"no://me:12?{SECRET}@b/p",
        f"gs://{TYPED.partition(':')[2]}@b/p",
        f"no://me:{TYPED}@x",
    ],
)
def test_a_store_that_can_t_be_opened_shows_none(root: str, clean: None) -> None:
    with pytest.raises(StoreError, match="Can't open") as caught:
        Files(root)
    assert shows(str(caught.value)) == []


def test_a_clusters_nodes_are_sent_none(clean: None, tmp_path: Path) -> None:
    request = request_of(f"s3://{TYPED}@bucket/p", tmp_path)
    with pytest.raises(UsageError, match="With --address, the cluster's nodes need their own"):
        with_places(request, "http://127.0.0.1:9")


def test_a_run_keeps_no_secret_in_any_file(
    clean: None,
    server: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A whole launch, from the address that was typed to its report, in an S3 server's bucket."""
    monkeypatch.setenv("MUSTER_CACHE", str(tmp_path / "cache"))
    typed = f"s3://{TYPED}@bucket/{uuid.uuid4().hex}?{server}"
    asked = request_of(typed, write_classes(tmp_path / "images"), **{"ensemble.L": 1})
    request = with_places(asked, None)
    assert shows(repr(request)) == []
    finish(request)
    store = Store(request.storage)
    names = list(store.files.below(""))
    assert {"runs/one/run.json", "runs/one/report.html", "runs/one/answer.json"} <= set(names)
    for name in names:
        assert shows(store.files.get(name).decode(errors="replace")) == [], name
    printed = capsys.readouterr()
    assert shows(printed.out + printed.err) == []
    assert shows(repr(saved_run("one", typed)) + launch_command(request)) == []
    for file in (path for path in (tmp_path / "cache").rglob("*") if path.is_file()):
        assert shows(file.read_bytes().decode(errors="replace")) == [], file


def test_no_command_shows_a_secret(muster_without_cluster: Muster, server: str, tmp_path: Path) -> None:
    env = {**muster_without_cluster.env, "AWS_EC2_METADATA_DISABLED": "true"}
    typed = f"s3://{TYPED}@bucket/none?{server}"
    muddled = f"s3://{KEY}:{SECRET}@bucket"
    launch = ["launch", "dreml", "--D", 2, "--L", 1, "--dataset", "folder", "--data-root", tmp_path]
    for words, where, code in (
        (["runs"], typed, 0),
        (["runs", "--json"], muddled, 2),
        (["resume", "x"], typed.replace("bucket", "nobucket"), 2),
        ([*launch, "--address", "http://127.0.0.1:9"], typed, 2),
    ):
        ran = Muster(env, muster_without_cluster.server)(*words, "--storage", where, code=code)
        assert shows(ran.out + ran.err) == [], words
