"""Ray Tune's side of the decisions in `halving`: a scheduler and a stopper.

A trial that waits at a rung is paused and gives its process away, so that any number of trials share a few.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from muster.orchestrator.jobs.search.halving import Halving, Verdict, flat


class Plateau(tune.Stopper):
    """Ends a trial when more members no longer help; not before `least` members."""

    def __init__(self, metric: str, k: int, epsilon: float, least: int) -> None:
        self.metric, self.k, self.epsilon, self.least = metric, k, epsilon, least
        self.values: dict[int, dict[int, float]] = {}
        self.ended: set[int] = set()

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        number, size = result["number"], result["L"]
        values = self.values.setdefault(number, {})
        values[size] = result[self.metric]
        if result["ended"] or size < self.least or not flat(values, size, self.k, self.epsilon):
            return False
        self.ended.add(number)
        return True

    def stop_all(self) -> bool:
        return False


class HalvingScheduler(FIFOScheduler):
    """Lets Tune pause, resume and stop trials as `race` decides. Results carry number, L, ended and the metric.

    `note` is told each result before it can lead to a verdict, of which `tell` is told: Tune's own callbacks hear
    of a result only after the scheduler has acted on it.
    """

    def __init__(
        self, race: Halving, metric: str, note: Callable[[Any, Any], None], tell: Callable[[Verdict], None]
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.race, self.steer_by, self.note, self.tell = race, metric, note, tell
        self.trials: dict[int, Any] = {}
        self.resumable: list[Any] = []

    def __getstate__(self) -> dict[str, Any]:
        """Tune writes its scheduler into its scratch folder; nothing is ever read back from there."""
        return {}

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self.trials[trial.config["trial"]["number"]] = trial

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        number = result["number"]
        self.note(trial.config["trial"], result)
        if result["ended"] or not self.race.waits(number, result["L"], result[self.steer_by]):
            return TrialScheduler.CONTINUE
        goes = self._settle(tune_controller, current=number)
        if goes is None:
            # Without a checkpoint: what a resumed trial replays comes from the store.
            tune_controller.pause_trial(trial, should_checkpoint=False)
            return TrialScheduler.NOOP
        return TrialScheduler.CONTINUE if goes else TrialScheduler.STOP

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self._left(tune_controller, trial)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        self._left(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        if not trial.should_recover():  # else Tune starts it again, and the others still wait for it
            self._left(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        for trial in tune_controller.get_trials():
            if trial.status == trial.PENDING:
                return trial
        self.resumable = [trial for trial in self.resumable if trial.status == trial.PAUSED]
        return self.resumable[0] if self.resumable else None

    def debug_string(self) -> str:
        return f"successive halving over L, rungs {self.race.schedule.rungs}"

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the store is the record."""

    def _left(self, controller: Any, trial: Any) -> None:
        self.race.leave(trial.config["trial"]["number"])
        self._settle(controller, current=None)

    def _settle(self, controller: Any, current: int | None) -> bool | None:
        """Acts on a verdict if there is one; whether the current trial goes on, None if it must wait."""
        verdict = self.race.settle()
        if verdict is None:
            return None
        self.tell(verdict)
        self.resumable += [self.trials[number] for number in sorted(verdict.goes) if number != current]
        for number in verdict.cut:
            if number != current:
                controller.stop_trial(self.trials[number])
        return current in verdict.goes
