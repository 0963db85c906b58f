"""What travels with a job: a cluster that others run is sent no credentials."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import muster
from muster.cluster import jobs as cluster_jobs
from muster.cluster.errors import ClusterError, UnreachableError
from muster.cluster.launch import code_folder
from muster.orchestrator.client import session, submit
from muster.orchestrator.console.screen import err
from muster.orchestrator.methods.loading import load
from muster.orchestrator.records.events import event, to_line

SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "key-of-aws",
    "AWS_SESSION_TOKEN": "token-of-aws",
    "GOOGLE_APPLICATION_CREDENTIALS": "/home/me/key-of-google",
    "AZURE_STORAGE_KEY": "key-of-azure",
    "MUSTER_SETTING": "setting-of-ours",
}
OTHERS = {"HF_TOKEN": "token-of-others", "RAY_AUTH_TOKEN": "token-of-ray", "MY_AWS_KEY": "key-of-mine"}


class Recording:
    """Stands for a cluster's Jobs API: keeps what it is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []

    def submit(self, *call: Any) -> str:
        self.sent.append(call)
        return str(call[1])


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**SECRETS, **OTHERS}.items():
        monkeypatch.setenv(name, value)


def sent_to(python: str, *, local: bool, code: str = "") -> tuple[Any, ...]:
    jobs = Recording()
    cluster = submit.Cluster(jobs, python, local, code or code_folder())  # type: ignore[arg-type]
    submission = submit.submit(cluster, load(None, {"name": "mine"}, []), "train")
    ((command, attempt, *rest),) = jobs.sent
    assert submission == attempt
    return (command, attempt, *rest)


def test_a_cluster_that_is_not_ours_gets_no_credentials(shell: None) -> None:
    found = sent_to("python", local=False)
    text = json.dumps(found, default=str)
    assert [value for value in {**SECRETS, **OTHERS}.values() if value in text] == []
    assert found[2].keys() == {*submit.job_settings(), submit.REQUEST, submit.ATTEMPT, submit.FAR}


def test_the_local_head_gets_this_shell_s_credentials_and_no_more(shell: None) -> None:
    environment = sent_to(sys.executable, local=True)[2]
    assert environment.items() >= SECRETS.items()
    assert not OTHERS.keys() & environment.keys()


@pytest.mark.parametrize(("address", "local"), [("http://host:8265", False), ("http://127.0.0.1:1", False)])
def test_a_cluster_that_is_named_is_not_ours(
    monkeypatch: pytest.MonkeyPatch, address: str, local: bool
) -> None:
    asked = []
    monkeypatch.setattr(cluster_jobs, "connect", asked.append)
    with submit.reached(address, print) as cluster:
        assert (cluster.local, cluster.python) == (local, "python")
    assert asked == [address]


def test_a_job_is_the_request_under_a_name_of_its_own_with_our_code_where_it_is_another_s() -> None:
    command, attempt, environment, modules, metadata = sent_to("/a b/python", local=False)
    assert command == "exec '/a b/python' -m muster.orchestrator.jobs.entry launch train"
    assert attempt.startswith("mine-")
    assert attempt != sent_to("python", local=False)[1]
    assert json.loads(environment[submit.REQUEST])["name"] == "mine"
    assert environment[submit.ATTEMPT] == attempt
    assert modules == [Path(muster.__file__).parent]
    assert metadata == {"run": "mine"}
    assert sent_to(sys.executable, local=True)[3] is None


def test_a_head_that_finds_another_checkout_gets_our_code(tmp_path: Path) -> None:
    """Two checkouts can share an interpreter, by PYTHONPATH."""
    assert sent_to(sys.executable, local=True, code=str(tmp_path))[3] == [Path(muster.__file__).parent]


DONE = {"state": "done", "exit_code": 0, "message": "done", "answer": {"state": "done"}}


class Ending(Recording):
    """A cluster whose job says that it is done, and that can't be asked any more after that."""

    def __init__(self, trouble: BaseException) -> None:
        super().__init__()
        self.trouble = trouble

    def list(self, prefix: str = "") -> list[Any]:
        return []

    def tail(self, submission: str) -> Iterator[str]:
        yield to_line(event("end", **DONE))

    def wait(self, submission: str, timeout_s: float) -> None:
        raise self.trouble


@pytest.mark.parametrize(
    "trouble",
    [
        ClusterError("job one-a is still RUNNING after 60 s."),
        UnreachableError("it does not answer any more"),
        KeyboardInterrupt(),
    ],
)
def test_the_answer_of_a_job_that_is_done_is_not_lost_with_the_cluster(trouble: BaseException) -> None:
    cluster = submit.Cluster(Ending(trouble), "python", local=False)  # type: ignore[arg-type]
    assert submit.follow(cluster, "one-a", err)["answer"] == DONE["answer"]


def test_nor_is_it_where_the_head_that_was_started_for_it_does_not_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    @contextlib.contextmanager
    def reached(*_: Any) -> Iterator[submit.Cluster]:
        yield submit.Cluster(Ending(UnreachableError("gone")), "python", local=False)  # type: ignore[arg-type]
        raise ClusterError("processes [7] outlive SIGKILL")

    monkeypatch.setattr(submit, "reached", reached)
    request = load(None, {"name": "mine", "storage": str(tmp_path)}, [])
    end = session._submitted(request, None, False, True)
    assert end is not None
    assert end["answer"] == DONE["answer"]
    assert "processes [7] outlive SIGKILL" in capsys.readouterr().err
