"""Who loads torch: what computes, and nothing else. A run starts several processes that only decide or connect, and
torch takes each of them seconds and half a gigabyte."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: Processes that must stay light, by the modules they run.
LIGHT = {
    "command line": [
        "orchestrator.cli",
        "orchestrator.attach",
        "orchestrator.preview",
        "orchestrator.results",
    ],
    "driver of a launch": [
        "orchestrator.job",
        "orchestrator.launch",
        "orchestrator.driver",
        "orchestrator.report",
    ],
    "driver of a search": ["orchestrator.search", "orchestrator.search_answer"],
    "driver of a reproduction": ["orchestrator.reproduce", "orchestrator.reproduce_answer"],
    "fleet": ["orchestrator.fleet"],
    "trial": ["orchestrator.trial", "orchestrator.prefixes"],
    "gather task": ["orchestrator.gather"],
}


@pytest.mark.parametrize("modules", LIGHT.values(), ids=LIGHT)
def test_a_process_that_computes_nothing_loads_no_torch(modules: list[str]) -> None:
    code = (
        f"import sys, {', '.join(modules)}; print([n for n in ('torch', 'matplotlib') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr
