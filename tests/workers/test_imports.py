"""The worker layer stands alone: no Ray, no pydantic, nothing of the orchestrator or the cluster.

Who may import whom is checked by import-linter's contracts in pyproject.toml; here a member is really trained so.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import muster.workers
from muster.workers.store.layout import Store
from tests.workers.members import result, run, task_for, weights_of

FOLDER = Path(muster.workers.__file__).parent
ALONE = """
import pickle, sys

class Absent:
    names = {"ray", "pydantic", "faiss", "typer", "rich", "matplotlib", "jinja2", "fsspec"}
    names |= {"muster.orchestrator", "muster.cluster"}

    def find_spec(self, name, path=None, target=None):
        if name in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import torch
from muster.workers.member import run_member
from muster.workers.store.layout import Store

task = pickle.load(open(sys.argv[2], "rb"))
run_member(Store(sys.argv[1]), task, "alone", torch.device("cpu"), log=print)
"""


def test_a_member_trains_and_embeds_where_there_is_no_ray(store: Store, images: Path, tmp_path: Path) -> None:
    """And gives the bytes that it gives here, beside everything else that this process has done."""
    task = task_for(store, images)
    (tmp_path / "task").write_bytes(pickle.dumps(task))
    ran = subprocess.run(
        [sys.executable, "-c", ALONE, store.root, str(tmp_path / "task")],
        cwd=FOLDER.parent,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "embedded 24 images of train" in ran.stdout
    here = Store(str(tmp_path / "here"))
    task_for(here, images)
    run(here, task)
    assert weights_of(here, task) == weights_of(store, task)
    for one, other in zip(result(here, task)[1], result(store, task)[1], strict=True):
        assert (one == other).all()
