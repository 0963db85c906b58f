"""Who loads torch: what computes, and nothing else. A run starts several processes that only decide or connect, and
torch takes each of them seconds and half a gigabyte."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: Processes that must stay light, by the modules they run.
LIGHT = {
    "command line": [
        "muster.orchestrator.cli",
        "muster.orchestrator.attach",
        "muster.orchestrator.preview",
        "muster.orchestrator.results",
    ],
    "driver of a launch": [
        "muster.orchestrator.job",
        "muster.orchestrator.launch",
        "muster.orchestrator.driver",
        "muster.orchestrator.report",
    ],
    "driver of a search": ["muster.orchestrator.search", "muster.orchestrator.search_answer"],
    "driver of a reproduction": ["muster.orchestrator.reproduce", "muster.orchestrator.reproduce_answer"],
    "fleet": ["muster.orchestrator.fleet"],
    "trial": ["muster.orchestrator.trial", "muster.orchestrator.prefixes"],
    "gather task": ["muster.orchestrator.gather"],
}


@pytest.mark.parametrize("modules", LIGHT.values(), ids=LIGHT)
def test_a_process_that_computes_nothing_loads_no_torch(modules: list[str]) -> None:
    code = (
        f"import sys, {', '.join(modules)}; print([n for n in ('torch', 'matplotlib') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr
