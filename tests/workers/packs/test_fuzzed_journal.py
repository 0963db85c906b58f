"""What a builder left behind, changed in every way: what is whole is gone on with, and nothing else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from muster.workers.datasets import Item
from muster.workers.packs.journal import GoodImage, half_pack
from tests.fuzzing import bounded, byte_mutations, fuzzed, json_mutations

ITEMS = [Item(f"a/{number}.jpg", "a") for number in range(3)]
PIXELS = [bytes([number]) * 12 for number in range(3)]


def line(number: int) -> bytes:
    digest = hashlib.sha256(b"2x2:" + PIXELS[number]).hexdigest()
    return json.dumps(vars(GoodImage(ITEMS[number].image_id, 2, 2, digest, digest))).encode()


def test_a_changed_journal_keeps_what_is_whole(tmp_path: Path) -> None:
    @fuzzed(60)
    @given(st.integers(0, 2), st.data())
    def each(number: int, draw: st.DataObject) -> None:
        lines = [line(n) for n in range(3)]
        changed = draw.draw(st.one_of(json_mutations(lines[number]), byte_mutations(lines[number])))
        lines[number] = changed.replace(b"\n", b"")
        (tmp_path / "pixels.bin").write_bytes(b"".join(PIXELS))
        (tmp_path / "journal.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
        with bounded(1 << 30), half_pack(tmp_path, ITEMS) as half:
            assert len(half.done) >= number or half.done == []
            assert half.record.size == 12 * sum(isinstance(image, GoodImage) for image in half.done)

    each()


def test_bytes_that_are_no_text_end_what_is_whole(tmp_path: Path) -> None:
    """As a power cut leaves them."""
    (tmp_path / "pixels.bin").write_bytes(b"".join(PIXELS))
    (tmp_path / "journal.jsonl").write_bytes(
        line(0) + b"\n" + line(1)[:20] + b"\xff\xfe\x80\n" + line(2) + b"\n"
    )
    with half_pack(tmp_path, ITEMS) as half:
        assert [image.image_id for image in half.done] == ["a/0.jpg"]
