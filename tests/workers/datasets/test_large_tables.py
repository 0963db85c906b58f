"""A table of pictures may be larger than the memory: its rows are read without them, and pictures some at a time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

PICTURES, BYTES = 240, 1 << 20
READ = """
import resource, sys
from pathlib import Path
from muster.workers.datasets.base import Reading
from muster.workers.datasets.own.table import ImageTable
data = ImageTable(None, Reading(table=sys.argv[1]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
items = [item for split in data.splits().values() for item in split.items]
rows = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for item in items:
    data.opened(item).read()
print(len(items), (rows - before) // 1024, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - rows) // 1024)
"""


def table(path: Path, group: int) -> Path:
    """Classes of noise that no compression makes smaller; `group` pictures in a row group."""
    rng = np.random.default_rng(0)
    schema = pa.schema([("image", pa.binary()), ("label", pa.string())])
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for start in range(0, PICTURES, group):
            rows = range(start, start + group)
            images = [rng.bytes(BYTES) for _ in rows]
            labels = [f"class {row % 8}" for row in rows]
            writer.write_table(pa.table({"image": pa.array(images, pa.binary()), "label": labels}))
    return path


@pytest.mark.parametrize("group", [20, PICTURES])
def test_neither_rows_nor_pictures_fill_the_memory(tmp_path: Path, group: int) -> None:
    listed = table(tmp_path / "items.parquet", group)
    ran = subprocess.run([sys.executable, "-c", READ, listed], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    count, rows, pictures = map(int, ran.stdout.split())
    assert count == PICTURES
    assert rows < 40, "MiB for the rows of a table of 240 MiB"
    assert pictures < 200, (
        "MiB for reading its pictures one by one: 32 of 1 MiB at once, of which a few are kept"
    )
