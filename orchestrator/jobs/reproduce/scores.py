"""The scores of a reproduction's ensembles: each scored once, kept in the run folder, and taken from there again."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from muster.orchestrator.ensemble.plan import Plan, metrics_identity
from muster.orchestrator.fleet.device_time import taken
from muster.orchestrator.jobs.reproduce.ensembles import Got
from muster.orchestrator.jobs.reproduce.plan import Work
from muster.orchestrator.settings.resources import parse_bytes
from muster.orchestrator.vectors.evaluate import evaluate_on_ray
from muster.orchestrator.vectors.protocols import draws_of, recall_at
from muster.workers.store.layout import RunFolder, Store
from muster.workers.task import MemberTask

if TYPE_CHECKING:
    from muster.orchestrator.fleet.client import FleetClient
    from muster.orchestrator.fleet.work import Outcome

#: Ensembles that are scored at the same time; Ray shares the cores out.
AT_ONCE = 4
DONE = {"done", "reused"}


def score_asks(works: list[Work], client: FleetClient, run: RunFolder) -> dict[str, Got]:
    """What became of each ask, by name; scores are in its `metrics`, on the test split. Raises MusterError.

    Scores are kept in the run's metrics.json: those of the same members and vectors are not computed again.
    """
    known: dict[str, Any] = run.read("metrics.json") or {}
    store = client.store
    got = {work.ask.name: _gathered(work, client.outcomes) for work in works}
    plans = {name: _identity(one) for name, one in got.items() if one.members}
    # Two asks may want the very same scores.
    fresh = {_digest(identity): name for name, identity in plans.items() if _digest(identity) not in known}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        scores = {
            digest: pool.submit(
                client.repaired, functools.partial(_scored, store, got[name], plans[name]), got[name].members
            )
            for digest, name in fresh.items()
        }
        known |= {digest: score.result() for digest, score in scores.items()}
    run.write("metrics.json", {_digest(identity): known[_digest(identity)] for identity in plans.values()})
    return {
        name: _with_metrics(one, known[_digest(plans[name])], store) if name in plans else one
        for name, one in got.items()
    }


def _gathered(work: Work, outcomes: Mapping[str, Outcome]) -> Got:
    done = tuple(task for task in work.tasks if outcomes[task.key].state in DONE)
    trouble = work.trouble
    if work.tasks and not done:
        causes = dict.fromkeys(outcomes[key].message.split("\n")[0] for key in work.keys)
        trouble = f"no member was trained: {'; '.join(causes)}"
    return Got(ask=work.ask, prepared=work.prepared, asked=work.tasks, members=done, trouble=trouble)


def _identity(got: Got) -> dict[str, Any]:
    test = MemberTask(spec=got.asked[0].spec, train=got.asked[0].train, targets=(got.target("test"),))
    request = got.ask.request
    plan = Plan((test,), (), (), None, "", request.settings.combination)
    keys, draws = [task.key for task in got.members], draws_of(request.data)
    return metrics_identity(plan, keys, recall_at(request), request.resources.nmi, draws)


def _digest(identity: dict[str, Any]) -> str:
    return json.dumps(identity, sort_keys=True)


def _scored(store: Store, got: Got, identity: dict[str, Any]) -> dict[str, Any]:
    """Raises DamagedMember."""
    request = got.ask.request
    return evaluate_on_ray(
        store,
        got.target("test"),
        got.members,
        identity["ks"],
        memory=parse_bytes(request.resources.eval_memory),
        nmi=identity["nmi"],
        combination=request.settings.combination,
        draws=draws_of(request.data),
    )


def _with_metrics(got: Got, scores: dict[str, Any], store: Store) -> Got:
    from dataclasses import replace

    identity = _identity(got)
    done, asked = len(got.members), len(got.asked)
    missing = [str(task.spec.index) for task in got.asked if task not in got.members]
    records = [found.facts for task in got.members if (found := store.model(task.key).done())]
    metrics = {
        "identity": identity,
        "ks": list(identity["ks"]),
        "splits": {"test": scores},
        "state": "done" if done == asked else f"partial {done} of {asked}",
        "warnings": [f"{done} of {asked} members: without {', '.join(missing)}."] if missing else [],
        "device_seconds": sum(taken(facts, got.ask.request.resources) for facts in records),
    }
    return replace(got, metrics=metrics)
