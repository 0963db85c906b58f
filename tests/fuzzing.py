"""Mutations of valid files, for tests that hand damaged or hostile ones to whatever reads them.

A few examples of each kind are tried in every run, always the same; MUSTER_FUZZ=1000 tries that many, new ones each
time.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

FEW = 25
_MANY = int(os.environ.get("MUSTER_FUZZ", "0"))
#: What a reader may take beside what the process has, in bytes.
MEMORY = 3 << 30


def fuzzed(few: int = FEW) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Settings of a test that is given mutations."""
    return settings(
        max_examples=_MANY or few,
        derandomize=not _MANY,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@contextlib.contextmanager
def bounded(extra: int = MEMORY) -> Iterator[None]:
    """At most so much more memory than the process has: what asks for more gets a MemoryError, which fails the test."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + extra, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


#: Written as they are: Python's writer refuses a number of so many digits, and makes no such depth.
RAW = {
    "@huge@": "9" * 5000,
    "@deep@": "[" * 100_000,
    "@nested@": "[" * 300 + "]" * 300,
    "@exponent@": "1e999",
}
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2**31, 2**63, 10**30, 1.5, -0.0, float("nan"), float("inf"), "", "x", "0", "nan", "\0",
    "é\ud800",
    "../../../x", "/nowhere/x", "a/../../b", "C:\\x", "x" * 5000, [], {}, [None], [[]], {"": None}, {"L": "x"},
    [1, "x"],
    *RAW,
]  # fmt: skip


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _places(inner, (*place, key))


@st.composite
def json_mutations(draw: st.DrawFn, sample: bytes) -> bytes:
    """A document with one to three of its values replaced, left out or given twice."""
    document = json.loads(sample)
    for _ in range(draw(st.integers(1, 3))):
        *before, last = draw(st.sampled_from([place for place in _places(document) if place] or [("x",)]))
        inside = document
        for key in before:
            inside = inside[key]
        if not isinstance(inside, dict | list):
            continue
        how = draw(st.sampled_from(["replace", "replace", "replace", "leave out", "twice"]))
        if how == "replace":
            inside[last] = copy.deepcopy(draw(st.sampled_from(VALUES)))
        elif how == "leave out":
            del inside[last]
        elif isinstance(inside, list):
            inside.append(inside[last])
        else:
            inside[f"{last}@twice"] = draw(st.sampled_from(VALUES))
        if not _is_json(document):
            break
    text = json.dumps(document).replace("@twice", "")
    for name, raw in RAW.items():
        text = text.replace(f'"{name}"', raw)
    return text.encode(errors="surrogatepass")


def _is_json(document: Any) -> bool:
    return isinstance(document, dict | list) and bool(document)


@st.composite
def byte_mutations(draw: st.DrawFn, sample: bytes) -> bytes:
    """Bytes that are changed, cut, doubled or put in the place of others."""
    data = bytearray(sample)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        how = draw(st.sampled_from(["flip", "cut", "insert", "repeat", "size"]))
        if how == "flip" and data:
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif how == "cut":
            del data[place:]
        elif how == "insert":
            data[place:place] = draw(
                st.sampled_from([b"\0", b"\xff\xff\xff\xff", b"\n", b"../", b"\x80\x02cos\n", b","])
            )
        elif how == "repeat":
            data[place:place] = data[place : place + draw(st.integers(1, 64))]
        else:  # where a format has a size, more likely than not near its beginning or its end
            where = draw(st.sampled_from([0, 4, 8, 16, 20, max(0, len(data) - 8), place]))
            data[where : where + 4] = draw(
                st.sampled_from([b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\0\0\0\x80"])
            )
    return bytes(data)


def text_mutations(sample: bytes) -> st.SearchStrategy[bytes]:
    """Of lists and tables: a line changed, doubled or lost, odd words in it, and bytes."""
    words = [
        "", "0", "-1", "1e9", "9" * 5000, "nan", "../../../nowhere/x", "/nowhere/x.jpg", "a\0b.jpg", "C:\\x.jpg",
        "é.jpg",
        '"', "x" * 200_000, "..\\..\\x.jpg", "\ufeff", "\u2028", "\r",
    ]  # fmt: skip

    @st.composite
    def changed(draw: st.DrawFn) -> bytes:
        lines = sample.decode("utf-8", "replace").split("\n")
        for _ in range(draw(st.integers(1, 3))):
            number = draw(st.integers(0, len(lines) - 1))
            parts = lines[number].split(" ")
            place = draw(st.integers(0, len(parts) - 1))
            how = draw(st.sampled_from(["word", "word", "lose", "double", "comma"]))
            if how == "word":
                parts[place] = draw(st.sampled_from(words))
                lines[number] = " ".join(parts)
            elif how == "lose":
                lines[number] = ""
            elif how == "double":
                lines.insert(number, lines[number])
            else:
                cells = lines[number].split(",")
                cells[draw(st.integers(0, len(cells) - 1))] = draw(st.sampled_from(words))
                lines[number] = ",".join(cells)
        return "\n".join(lines).encode()

    return st.one_of(changed(), changed(), byte_mutations(sample))


def mutations(path: str, sample: bytes) -> st.SearchStrategy[bytes]:
    """What fits a file by its name."""
    if path.endswith(".json"):
        return st.one_of(json_mutations(sample), json_mutations(sample), byte_mutations(sample))
    if path.endswith(".jsonl"):
        return _line_mutations(sample)
    if path.endswith((".txt", ".csv")):
        return text_mutations(sample)
    return byte_mutations(sample)


@st.composite
def _line_mutations(draw: st.DrawFn, sample: bytes) -> bytes:
    lines = sample.splitlines()
    number = draw(st.integers(0, len(lines) - 1))
    lines[number] = draw(json_mutations(lines[number]))
    return b"\n".join(lines) + b"\n"
