"""Training gives the numbers it gave when TRAINING_VERSION was last raised.

The tolerances: other kernels, instruction sets and a change of the initial weights by a millionth move these
losses by less than 3e-6 of their value. The smallest change of the algorithm that was tried moved one by
8e-4: a shift of the normalised pixels by 0.01. So 1e-4 tells the two apart on any machine.
"""

from __future__ import annotations

import json

import pytest

from muster.workers.spec import EMBEDDING_VERSION, TRAINING_VERSION
from tests.workers.train.record_golden import FILE, RECIPES, compute

GOLDEN = json.loads(FILE.read_text())
TOLERANCE = 1e-4
CURE = (
    "If the change is meant, raise {} in workers/spec.py, so that results of the old code are never taken for "
    "results of the new, and record anew: python -m tests.workers.train.record_golden"
)


@pytest.mark.parametrize("name", RECIPES)
def test_training_gives_the_recorded_losses_and_embeddings(name: str) -> None:
    found, wanted = compute(RECIPES[name]), GOLDEN["runs"][name]
    assert found["losses"] == pytest.approx(wanted["losses"], rel=TOLERANCE), (
        f"Training gives other losses than TRAINING_VERSION {GOLDEN['training_version']} did. "
        + CURE.format("TRAINING_VERSION")
    )
    assert found["cosines"] == pytest.approx(wanted["cosines"], abs=TOLERANCE), (
        "The same training gives other embeddings. " + CURE.format("EMBEDDING_VERSION or TRAINING_VERSION")
    )


def test_the_recorded_numbers_belong_to_the_versions_in_the_code() -> None:
    recorded = (GOLDEN["training_version"], GOLDEN["embedding_version"])
    assert recorded == (TRAINING_VERSION, EMBEDDING_VERSION), (
        "A version was raised and the golden numbers were not recorded anew: "
        "python -m tests.workers.train.record_golden"
    )
