"""Settings that only the loader itself can refuse: they belong to no section, or other settings follow from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from muster.orchestrator.methods.loading import load
from muster.workers.errors import UsageError


@pytest.mark.parametrize("value", ["[1]", "{a = 1}", "7", '["dreml"]'])
@pytest.mark.parametrize("given", ["file", "assignment"])
@pytest.mark.parametrize("flags", [{"method": "dreml"}, {}])
def test_a_method_that_is_no_text_is_named(
    tmp_path: Path, value: str, given: str, flags: dict[str, Any]
) -> None:
    file = tmp_path / "run.toml"
    file.write_text(f"method = {value}\n")
    sources = (file, []) if given == "file" else (None, [f"method={value}"])
    with pytest.raises(UsageError) as refused:
        load(sources[0], flags, sources[1])
    (problem,) = refused.value.problems
    assert problem.startswith("method = ")
    assert problem.endswith("must be text, in quotes.")


def test_another_method_than_the_command_s_is_named_wherever_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('method = "bier"\n')
    for config, assignments in ((file, []), (None, ["method=bier"])):
        with pytest.raises(UsageError, match="method = 'bier': this command's is dreml"):
            load(config, {"method": "dreml"}, assignments)
    file.write_text('method = "dreml"\n')
    assert load(file, {"method": "dreml"}, ["method=dreml"]).method == "dreml"


@pytest.mark.parametrize(
    ("epochs", "steps"),
    [(1, 1), (12, 4), (18, 6), (20, 7), (10**400, 10**400 // 3)],
    ids="1 12 18 20 huge".split(),
)
def test_the_steps_of_a_schedule_keep_their_share_of_any_number_of_epochs(epochs: int, steps: int) -> None:
    recipe: Any = load(
        None, {"data.dataset": "glyphs", "preset": "paper", "recipe.epochs": epochs}, []
    ).recipe
    assert recipe.step_epochs == steps
