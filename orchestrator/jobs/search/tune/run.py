"""The one place that talks to Ray Tune: search algorithm, scheduler, resources, callbacks.

A trial takes a small share of the head node, no CPU: on a small machine even 0.01 CPU would cost a member its
place. The share limits how many trial processes there are at once; a trial that waits at a rung has none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

from muster.orchestrator.fleet.actors.fleet import NAMESPACE
from muster.orchestrator.jobs.search.halving import REDUCTION, Halving
from muster.orchestrator.jobs.search.plan import schedule_of
from muster.orchestrator.jobs.search.record import Record
from muster.orchestrator.jobs.search.request import SearchRequest
from muster.orchestrator.jobs.search.space import Axis
from muster.orchestrator.jobs.search.tune.scheduler import HalvingScheduler, Plateau
from muster.orchestrator.jobs.search.tune.trial import trial

#: Ray gives each head node one of it.
HEAD = "node:__internal_head__"
TRIALS_AT_ONCE = 16
PROPOSED_AT_ONCE = 4
#: Times that a trial's process may die, e.g. for lack of memory, before the trial counts as failed.
TRIAL_FAILURES = 3


def tune_trials(
    request: SearchRequest,
    record: Record,
    actor_name: str,
    scratch: str,
    release: Callable[[int], None],
) -> None:
    """Runs all trials to their ends. `record` is told each row and verdict; `release` of each trial that is over."""
    search, max_L = request.search, request.base.ensemble.L
    stopper = None
    if search.plateau is not None:
        stopper = Plateau(search.metric, *search.plateau, least=search.first_rung)
    body = tune.with_parameters(
        trial, actor_name=actor_name, namespace=NAMESPACE, max_L=max_L, metric=search.metric
    )
    numbered = [{"number": n, **settings} for n, settings in enumerate(request.trials(), 1)]
    tuner = tune.Tuner(
        tune.with_resources(body, tune.PlacementGroupFactory([{HEAD: round(1 / TRIALS_AT_ONCE, 4)}])),
        param_space={"trial": tune.grid_search(numbered)} if numbered else {},
        tune_config=tune.TuneConfig(
            scheduler=_scheduler(request, len(numbered), record),
            search_alg=_optuna(request) if search.algorithm == "optuna" else None,
            num_samples=search.samples if search.algorithm == "optuna" else 1,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="search",
            storage_path=scratch,
            callbacks=[_Watch(record, stopper, release)],
            stop=stopper,
            failure_config=tune.FailureConfig(max_failures=TRIAL_FAILURES),
            verbose=0,
        ),
    )
    results = tuner.fit()
    for result in (results[n] for n in range(len(results))):
        if result.error is not None and result.config:
            record.failed(result.config["trial"], str(result.error))


def _scheduler(request: SearchRequest, trials: int, record: Record) -> Any:
    search = request.search
    if search.scheduler == "none":
        return FIFOScheduler()
    if search.scheduler == "asha":
        return ASHAScheduler(
            time_attr="L",
            metric=search.metric,
            mode="max",
            max_t=request.base.ensemble.L,
            grace_period=min(search.first_rung, request.base.ensemble.L),
            reduction_factor=search.reduction or REDUCTION,
        )
    race = Halving(range(1, trials + 1), schedule_of(request))
    return HalvingScheduler(race, search.metric, record.row, record.verdict)


def _optuna(request: SearchRequest) -> Any:
    """Optuna's sampler, seeded, which proposes a few trials at a time; each gets the next number."""
    import optuna
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    class Numbered(OptunaSearch):
        """Gives each proposal its number, as the trials of a grid have."""

        number = 0

        def suggest(self, trial_id: str) -> Any:
            proposed = super().suggest(trial_id)
            if proposed is None:
                return None
            self.number += 1
            return {"trial": {"number": self.number, **proposed}}

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = {axis.key: _domain(axis) for axis in request.axes}
    sampler = optuna.samplers.TPESampler(seed=request.base.ensemble.seed)
    searcher = Numbered(space=space, metric=request.search.metric, mode="max", sampler=sampler)
    return ConcurrencyLimiter(searcher, max_concurrent=PROPOSED_AT_ONCE)


def _domain(axis: Axis) -> Any:
    """An axis as Tune writes it."""
    if axis.values:
        return tune.choice(list(axis.values))
    if axis.kind is int:
        draw = tune.lograndint if axis.scale == "log" else tune.randint
        return draw(int(axis.low), int(axis.high) + 1)
    return (tune.loguniform if axis.scale == "log" else tune.uniform)(axis.low, axis.high)


class _Watch(tune.Callback):
    """Passes what Tune sees on to the record, and tells when a trial is over."""

    def __init__(self, record: Record, stopper: Plateau | None, release: Callable[[int], None]) -> None:
        self.record, self.stopper, self.release = record, stopper, release

    def __getstate__(self) -> dict[str, Any]:
        """Tune writes its callbacks into its scratch folder; nothing is ever read back from there."""
        return {}

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self.record.row(trial.config["trial"], result)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        number = trial.config["trial"]["number"]
        self.record.over(number, flat=self.stopper is not None and number in self.stopper.ended)
        self.release(number)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if not trial.should_recover():
            self.release(trial.config["trial"]["number"])
