"""What a Tune trial does: it asks for one prefix of its ensemble after another and reports each.

It owns no accelerator, starts no actor, computes nothing and imports no torch: members are the fleet's
business and scores are the `Prefixes` actor's. So a trial can wait as long as it likes and block nobody.
"""

from __future__ import annotations

from typing import Any

import ray
from ray import tune


def trial(config: dict[str, Any], actor_name: str, namespace: str, max_L: int, metric: str) -> None:
    """Reports rows of L, metrics, `number` and `ended` (why the trial is over before max_L, or "")."""
    prefixes: Any = ray.get_actor(actor_name, namespace=namespace)
    settings = dict(config["trial"])
    number = settings.pop("number")
    last: dict[str, Any] = {metric: 0.0}  # Tune wants a value even of a trial without members
    for L in range(1, max_L + 1):
        row = ray.get(prefixes.prefix.remote(number, settings, L))
        if row["ended"]:
            tune.report({**last, **row, "number": number})
            return
        last = row
        tune.report({**row, "number": number})
