"""What a search has seen so far: each trial's settings, rows and end; and the other split's scores of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from muster.orchestrator.ensemble.scores import score_all
from muster.orchestrator.jobs.search.halving import Verdict
from muster.orchestrator.jobs.search.plan import SearchPlan
from muster.orchestrator.jobs.search.request import SearchRequest
from muster.orchestrator.records.events import event
from muster.orchestrator.records.scores import percent
from muster.orchestrator.records.stages import Emit
from muster.orchestrator.vectors.protocols import COUNTS
from muster.workers.errors import MusterError
from muster.workers.score.metrics import NMI, is_share

if TYPE_CHECKING:
    from muster.orchestrator.fleet.client import FleetClient

Row = dict[str, Any]


@dataclass
class TrialRecord:
    """One trial: its settings, a row for each prefix it reached, and why it ended."""

    number: int
    settings: dict[str, Any]
    rows: dict[int, Row] = field(default_factory=dict)
    ended: str = "running"
    "complete, cut, plateau, budget, stopped or failed."
    message: str = ""

    @property
    def reached(self) -> int:
        """The largest ensemble that was scored."""
        return max(self.rows, default=0)


class Record:
    """All trials of a search, by number. Rows that a resumed trial replays change nothing."""

    def __init__(self, request: SearchRequest, emit: Emit) -> None:
        self.request, self.emit = request, emit
        self.trials = {n: TrialRecord(n, dict(settings)) for n, settings in enumerate(request.trials(), 1)}
        self.verdicts: list[Verdict] = []

    def in_order(self) -> list[TrialRecord]:
        """The trials by number; Optuna's may come in another order."""
        return [self.trials[number] for number in sorted(self.trials)]

    def begin(self) -> None:
        """Says which trials there are; Optuna's are heard of one by one."""
        for trial in self.in_order():
            self._say(trial, state="waiting", L=0)

    def row(self, config: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """A trial reported a prefix, or that it can't go on. To be told twice of the same changes nothing."""
        trial = self._trial(config)
        if result["ended"] and trial.ended == "running":
            trial.ended, trial.message = result["ended"], result["message"]
            self._say(trial, state=trial.ended, L=trial.reached, message=trial.message)
        elif not result["ended"] and result["L"] not in trial.rows:
            row = {name: value for name, value in result.items() if name in COUNTS or is_share(name)}
            trial.rows[row["L"]] = row
            metric = self.request.search.metric
            self._say(trial, state="reached", L=row["L"], **{metric: row[metric]})

    def verdict(self, verdict: Verdict) -> None:
        """The scheduler decided at a rung."""
        self.verdicts.append(verdict)
        named = [self._named(number, verdict) for number in (*verdict.goes, *verdict.cut)]
        go_on = "the first goes on" if len(verdict.goes) == 1 else f"the first {len(verdict.goes)} go on"
        text = f"rung L = {verdict.rung}: {', '.join(named)}; {go_on}"
        self.emit(event("message", level="info", text=text))
        for number in verdict.cut:
            trial = self.trials[number]
            trial.ended, trial.message = "cut", f"cut at L = {verdict.rung}"
            self._say(trial, state="cut", L=trial.reached)

    def over(self, number: int, *, flat: bool) -> None:
        """Tune ended a trial, or it came to its end."""
        trial = self.trials[number]
        if trial.ended != "running":
            return
        if flat:
            k, epsilon = self.request.search.plateau or (0, 0.0)
            trial.ended = "plateau"
            trial.message = f"the last {k} members added less than {epsilon:g}"
        else:
            full = trial.reached == self.request.base.ensemble.L
            trial.ended = "complete" if full else "cut"
            trial.message = "" if full else f"cut at L = {trial.reached}"
        self._say(trial, state=trial.ended, L=trial.reached)

    def failed(self, config: Mapping[str, Any], cause: str) -> None:
        """The trial's own process failed for good, it may be before its first row."""
        trial = self._trial(config)
        trial.ended = "failed"
        trial.message = cause.strip().splitlines()[-1] if cause.strip() else "its process died"
        self._say(trial, state="failed", L=trial.reached, message=trial.message)

    def _trial(self, config: Mapping[str, Any]) -> TrialRecord:
        number = config["number"]
        settings = {key: value for key, value in config.items() if key != "number"}
        return self.trials.setdefault(number, TrialRecord(number, settings))

    def _named(self, number: int, verdict: Verdict) -> str:
        settings = self.trials[number].settings
        shown = " ".join(f"{key}={value}" for key, value in settings.items())
        return f"{shown} {percent(verdict.values[number])}"

    def _say(self, trial: TrialRecord, **fields: Any) -> None:
        of = {"of": self.request.base.ensemble.L, "metric": self.request.search.metric}
        self.emit(event("trial", number=trial.number, settings=trial.settings, **of, **fields))


def evaluate_tests(plan: SearchPlan, record: Record, client: FleetClient) -> dict[int, list[Row]]:
    """The test rows of every prefix reached, by trial; those the search has already, where it chose on them.

    Raises MusterError if vectors are damaged again and again.
    """
    if plan.request.search.select_on == "test":
        return {n: [t.rows[L] for L in sorted(t.rows)] for n, t in record.trials.items()}
    trials = [trial for trial in record.trials.values() if trial.rows]
    ensembles = [plan.ensemble(trial.number, trial.settings, trial.reached) for trial in trials]
    results = score_all(ensembles, client, {})
    found = {}
    for trial, ensemble in zip(trials, ensembles, strict=True):
        curve = (results[ensemble.request.name].metrics or {})["splits"]["test"]["curve"]
        if len(curve) < trial.reached:
            raise MusterError(f"Damaged vectors of trial {trial.number} can't be made again: check the disk.")
        found[trial.number] = [{name: row[name] for name in row if name != NMI.name} for row in curve]
    return found
