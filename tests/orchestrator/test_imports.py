"""Who loads torch: what computes, and nothing else. A run starts several processes that only decide or connect, and
torch takes each of them seconds and half a gigabyte."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: Processes that must stay light, by the modules they run.
LIGHT = {
    "command line": [
        "muster.orchestrator.cli.app",
        *(
            f"muster.orchestrator.cli.{name}"
            for name in ("cluster", "data", "launch", "reproduce", "runs", "search")
        ),
        "muster.orchestrator.client.session",
        "muster.orchestrator.jobs.launch.preview",
        "muster.orchestrator.jobs.launch.job",
        "muster.orchestrator.jobs.search.job",
        "muster.orchestrator.jobs.reproduce.job",
        "muster.orchestrator.ensemble.results",
    ],
    "driver of a launch": [
        "muster.orchestrator.jobs.entry",
        "muster.orchestrator.jobs.launch.run",
        "muster.orchestrator.ensemble.run",
        "muster.orchestrator.report.page",
    ],
    "driver of a search": ["muster.orchestrator.jobs.search.run", "muster.orchestrator.jobs.search.answer"],
    "driver of a reproduction": [
        "muster.orchestrator.jobs.reproduce.run",
        "muster.orchestrator.jobs.reproduce.answer",
    ],
    "fleet": ["muster.orchestrator.fleet.actors.fleet"],
    "trial": ["muster.orchestrator.jobs.search.tune.trial", "muster.orchestrator.jobs.search.prefix_actor"],
    "gather task": ["muster.orchestrator.vectors.gather"],
}


@pytest.mark.parametrize("modules", LIGHT.values(), ids=LIGHT)
def test_a_process_that_computes_nothing_loads_no_torch(modules: list[str]) -> None:
    code = (
        f"import sys, {', '.join(modules)}; print([n for n in ('torch', 'matplotlib') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr


def test_the_list_of_commands_loads_none_of_them() -> None:
    code = (
        "import sys; from muster.__main__ import main; sys.argv = ['muster', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n"
        "    print([n for n in ('numpy', 'pyarrow', 'pydantic') if n in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == "[]\n"
    assert "correlation" in done.stdout
