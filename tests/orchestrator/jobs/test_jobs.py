"""What all kinds of jobs share: the registry, paths, ends, and the plan of several ensembles at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from muster.orchestrator.client.session import with_places
from muster.orchestrator.ensemble.plan import make_plan, prepare_ensembles, settle_members
from muster.orchestrator.ensemble.requests import EnsembleRequest
from muster.orchestrator.ensemble.scores import result_of
from muster.orchestrator.fleet.work import Outcome
from muster.orchestrator.jobs.base import end_of, open_run, run_job
from muster.orchestrator.jobs.registry import JOBS, job_of
from muster.orchestrator.jobs.reproduce.targets import load_options
from muster.orchestrator.jobs.search.request import load_search
from muster.orchestrator.methods.loading import load
from muster.orchestrator.records.log import EventLog
from muster.orchestrator.runs.status import run_status
from muster.orchestrator.settings.request import LaunchRequest
from muster.workers.errors import UsageError
from muster.workers.store.layout import Store

ADDRESS = "http://10.0.0.1:8265"


def request_of(kind: str) -> Any:
    flags = {"data.dataset": "folder", "data.root": "pictures", "ensemble.weights": "w.pt", "storage": "here"}
    if kind == "launch":
        return load(None, {**flags, "ensemble.D": 2}, [])
    if kind == "search":
        return load_search(None, {**flags, "data.val_classes": 2}, [], "2,3", [], {})
    given = {"reproduce.data_root": "pictures", "storage": "here"}
    return load_options("dreml-table1", given, ("none", "resnet18=w.pt"))


@pytest.mark.parametrize("kind", JOBS)
def test_each_kind_is_found_under_its_own_name(kind: str) -> None:
    assert job_of(kind).kind == kind
    assert request_of(kind).kind == kind
    changed = job_of(kind).changed(request_of(kind), name="other", storage="there")
    assert (changed.run, changed.storage) == ("other", "there")


@pytest.mark.parametrize("kind", ["other", None, 3, ["launch"]])
def test_what_is_unknown_is_read_as_a_launch(kind: Any) -> None:
    assert job_of(kind).kind == "launch"


@pytest.mark.parametrize("kind", JOBS)
def test_paths_are_this_shell_s_or_all_of_them_whole(kind: str, tmp_path: Path) -> None:
    here = with_places(request_of(kind), None)
    assert here.storage == str(Path("here").resolve())
    with pytest.raises(UsageError) as error:
        with_places(request_of(kind), ADDRESS)
    flags = [problem.partition(":")[0] for problem in error.value.problems]
    assert flags == ["--storage here", "--data-root pictures", "--weights w.pt"]


@pytest.mark.parametrize("name", ["w.pt", "a=b/w=1.pt", "none.pt"])
def test_a_file_of_weights_for_a_backbone_may_have_any_name(name: str) -> None:
    options = load_options("dreml-table1", {"reproduce.data_root": "p"}, ("imagenet", f"resnet18={name}"))
    here = with_places(options, None)
    assert here.weights == ("imagenet", f"resnet18={Path(name).resolve()}")
    assert here.weights_file("resnet18") == str(Path(name).resolve())


@pytest.mark.parametrize(("state", "code"), [("done", 0), ("partial 1 of 2", 3)])
def test_an_answer_of_any_kind_has_one_end(state: str, code: int) -> None:
    models = {"asked": 2, "reused": 1, "trained": 0, "failed": 1}
    end = end_of(job_of("launch"), {"state": state, "models": models}, ["member 2: given up"])
    assert (end["exit_code"], end["state"]) == (code, state.partition(" ")[0])
    assert end["message"].splitlines()[1:] == ["member 2: given up"]


@pytest.fixture
def launch(tmp_path: Path, image_folder: Path) -> LaunchRequest:
    flags = {
        "data.dataset": "folder", "data.root": str(image_folder), "image_size": 16, "ensemble.backbone": "conv4",
        "ensemble.D": 2, "ensemble.L": 2, "storage": str(tmp_path / "store"),
    }  # fmt: skip
    return load(None, flags, [])


def test_ensembles_that_share_members_have_them_once_with_all_their_vectors(launch: LaunchRequest) -> None:
    store = Store(launch.storage)
    longer = replace(launch, ensemble=replace(launch.ensemble, L=3))
    wanted = [
        EnsembleRequest(launch=launch, name="a", splits=("train",)),
        EnsembleRequest(launch=longer, name="b"),
    ]
    ensembles = prepare_ensembles(wanted, store, lambda *_: None)
    settle_members(ensembles, lambda _: ("none", "fp32"))
    plan = make_plan(ensembles, store)
    assert (plan.cost.members, plan.cost.to_train) == (3, 3)
    assert [len(plan.tasks[key].targets) for key in ensembles[1].keys] == [2, 2, 1]
    first = ensembles[0].keys[0]
    result = result_of(ensembles[1], {first: Outcome(first, 1, "failed", message="the disk is full")})
    assert [task.spec.index for task in result.members] == [2, 3]


def test_one_ensemble_s_trouble_is_its_own_unless_all_are_needed(launch: LaunchRequest) -> None:
    store = Store(launch.storage)
    absent = replace(launch, data=replace(launch.data, root="/nowhere"))
    wanted = [EnsembleRequest(launch=absent, name="a"), EnsembleRequest(launch=launch, name="b")]
    first, second = prepare_ensembles(wanted, store, lambda *_: None)
    assert "/nowhere is not a folder" in first.trouble
    assert (second.trouble, second.prepared is not None) == ("", True)
    with pytest.raises(UsageError, match="/nowhere is not a folder"):
        prepare_ensembles(wanted, store, lambda *_: None, all_needed=True)


def test_a_finished_run_that_is_resumed_otherwise_keeps_its_request(tmp_path: Path) -> None:
    """Its record knows the request with the old resources: the new one must not be taken for damage."""
    request = replace(request_of("launch"), storage=str(tmp_path), name="one")
    job, store = job_of("launch"), Store(str(tmp_path))
    run, damaged = open_run(job, request, store)
    assert damaged == []
    run.seal({}, {})
    slower = replace(request, resources=replace(request.resources, parallel=1))
    assert open_run(job, slower, store) == (run, [])
    assert run.read("run.json")["resources"]["parallel"] == 1


def test_the_end_is_told_after_the_record_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who follows a job would else read a run whose files nobody vouches for, or hear of a success that is none."""
    request = replace(request_of("launch"), storage=str(tmp_path), name="one")
    answer = {"state": "done", "models": {"asked": 1, "failed": 0, "trained": 1, "reused": 0}}
    job = replace(job_of("launch"), run=lambda *_: (answer, []))
    log = EventLog("20260101T000000-abcdef")
    printed = list[str]()

    def tell(item: Any) -> None:
        printed.append(f"{item['event']} {len(store.run('one').record())}")

    store = Store(str(tmp_path))
    log.tell = tell  # type: ignore[method-assign]
    assert run_job(job, request, log, "fleet", ()) == 0
    assert printed == ["end 2"]  # the request, and the events with the end in them
    assert run_status(store, "one")["state"] == "done"
