"""The benchmark for GPUs, on a CPU at small sizes: each of its measurements runs, so that it works the first time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: What only a GPU has.
GPU_ALONE = {"waits", "out of memory"}


def test_every_measurement_runs(tmp_path: Path) -> None:
    words = ["--small", "--repeats", "1", "--device", "cpu", "--out", str(tmp_path / "lines.jsonl")]
    ran = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/bench_gpu.py"), *words],
        capture_output=True, text=True, timeout=600, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    first, *lines = map(json.loads, (tmp_path / "lines.jsonl").read_text().splitlines())
    assert ran.stdout.splitlines() == (tmp_path / "lines.jsonl").read_text().splitlines()
    assert first["device"].startswith("cpu")
    assert first["small"] is True
    found = {line["measurement"]: line for line in lines}
    assert {name for name, line in found.items() if "not measured" in line} == GPU_ALONE
    assert len(found) == 16
    assert found["input"]["found"]["ring, 2 threads"]["per_s"] > 0
    assert found["deterministic"]["found"]["resumed the same"] is True
    assert found["evaluation"]["found"]["hits that differ"]["most"] == 0
    assert all(line["target"] for line in lines)


def test_without_a_gpu_it_says_how_to_try_it() -> None:
    ran = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/bench_gpu.py"), "--device", "cpu"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ran.returncode == 2
    assert "--small shows on a CPU" in ran.stderr
