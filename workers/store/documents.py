"""What the store's JSON documents must hold to be used, and the one check of it.

A store can be handed over: what its files say is not trusted before its form was looked at. A form is

* a `Kind`, for one value;
* a tuple of forms: one of them, None among them;
* a list of one form: a list of such values, of at least one where an ellipsis stands behind the form;
* a mapping of names to forms: an object. A name that ends in "?" may be absent, and a `Kind` in the place of a name
  stands for the names that fit it. What no name stands for may be anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from muster.workers.names import is_inner

Form = Any


@dataclass(frozen=True)
class Kind:
    """What one value has to be."""

    says: str
    "As in: it is 7, and should be <text>."
    fits: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    # Compared, as a whole number of hundreds of digits has no float; false for NaN.
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e18 <= value <= 1e18


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


TEXT = Kind("text", lambda value: isinstance(value, str))
NUMBER = Kind("a finite number", _is_number)
COUNT = Kind("a whole number from 0 up", _is_count)
DIMENSION = Kind("a dimension", lambda value: _is_count(value) and 0 < value < 2**31)
SCALAR = Kind("a number or text", lambda value: isinstance(value, str | bool) or _is_number(value))
ANY_NAME = Kind("a name", lambda value: isinstance(value, str))
#: A name without folders: of an attempt, a pack, a shard.
WORD = Kind(
    "a plain name",
    lambda value: (
        isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}", value) is not None
    ),
)
NAME = Kind(
    "the name of a file below its folder",
    lambda value: isinstance(value, str) and value != "" and is_inner(value),
)
SHA256 = Kind(
    "64 hex digits", lambda value: isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None
)
WEIGHTS = Kind(
    "none or hex digits",
    lambda value: isinstance(value, str) and re.fullmatch(r"none|[0-9a-f]{1,64}", value) is not None,
)
DEVICE = Kind("gpu or cpu", lambda value: value in ("gpu", "cpu"))
PRECISION = Kind("fp32, tf32 or bf16", lambda value: value in ("fp32", "tf32", "bf16"))

_RECORDS = {NAME: {"size": COUNT, "sha256": SHA256}}
#: A commit record, and what those of models, packs and vectors say beside their files.
DONE = {"files": _RECORDS}
#: Whoever needs one of the facts is told if it is not there.
MODEL = {
    **DONE, "attempt?": WORD, "seconds?": NUMBER, "loss?": (NUMBER, None), "images?": COUNT, "epochs?": COUNT,
    "ranks?": COUNT, "overhead_seconds?": NUMBER, "device?": TEXT, "node?": TEXT, "versions?": {ANY_NAME: TEXT},
}  # fmt: skip
PACK = {
    **DONE, "split?": TEXT, "resize?": TEXT, "class_names?": [TEXT],
    "bad_images?": [{"image_id": TEXT, "cause": TEXT}],
}  # fmt: skip
#: Rows of a model's history; a loss that is no number is kept as it was.
_ANY_NUMBER = (Kind("a number", lambda value: isinstance(value, int | float)), None)
HISTORY = [{"loss": _ANY_NUMBER, ANY_NAME: _ANY_NUMBER}]
PACK_SOURCE = {
    "pack": WORD, "data_set?": TEXT, "split?": TEXT, "reading?": COUNT,
    "remarks?": {ANY_NAME: {"number": COUNT, "first": [TEXT]}}, "twins?": [{"image_id": TEXT, "twin_of": TEXT}],
}  # fmt: skip
VECTORS = {**DONE, "rows?": COUNT, "D?": DIMENSION, "seconds?": NUMBER, "images_per_s?": NUMBER}

_CURVE = [{"L": COUNT, ANY_NAME: (NUMBER, None)}, ...]
#: Of the scores of one split.
SCORES = {
    "curve": _CURVE, "queries?": COUNT, "learners?": [{ANY_NAME: NUMBER}],
    "floors?": [{"name": WORD, "curve": _CURVE}],
}  # fmt: skip
#: Scores that are kept beside the vectors of a floor.
FLOOR = {"identity": {}, "scores": SCORES}
#: A reproduction keeps scores by what they depend on, which is an object of JSON itself.
_IDENTITY = Kind("what scores depend on", lambda name: isinstance(name, str) and name.startswith("{"))

_MAYBE = (NUMBER, None)
#: A table's row or a figure of a reproduction's answer, as far as it is shown again.
_TARGET = {
    "kind": TEXT, "title": TEXT, "trouble?": TEXT, "names?": [NAME], "files?": [TEXT], "notes?": [TEXT],
    "sheets?": [{"dataset": TEXT, "finding": [TEXT], "note": TEXT}],
    "rows?": [{
        "place": TEXT, "label": TEXT, "members": TEXT, "trouble": TEXT, "not_compared?": TEXT,
        "cells": [{
            "metric": TEXT, "source": (TEXT, None), "published": _MAYBE, "measured": _MAYBE, "spread": _MAYBE,
            "difference": _MAYBE,
        }],
    }],
}  # fmt: skip
#: Captions of a reproduction's figures.
CAPTIONS = {"sheets": [{"dataset": TEXT, "finding": [TEXT], "note": TEXT}]}
#: Of a run's files, by name.
RUN_FILES: Mapping[str, Form] = {
    "run.json": {"kind?": TEXT, "method?": TEXT, "muster?": TEXT},
    "plan.json": {
        "text?": TEXT,
        "members?": [TEXT],
        "asks?": {
            ANY_NAME: {
                "members": [TEXT],
                "trouble": TEXT,
                "weights?": (WEIGHTS, None),
                "precision?": (PRECISION, None),
            }
        },
    },
    "settled.json": {"device": DEVICE, "precision": PRECISION, "weights": {ANY_NAME: WEIGHTS}},
    "answer.json": {
        "state?": TEXT,
        "weights?": WEIGHTS,
        "precision?": PRECISION,
        "paths?": {ANY_NAME: TEXT},
        "written?": [NAME],
        "warnings?": [TEXT],
        "rehearsal?": TEXT,
        "targets?": [_TARGET],
        "models?": {"asked": COUNT, "reused": COUNT, "trained": COUNT, "failed": COUNT},
    },
    "metrics.json": {
        "identity?": {"members": [TEXT], "embeddings": {"test": TEXT, ANY_NAME: TEXT}},
        "splits?": {"test": SCORES, ANY_NAME: SCORES},
        "state?": TEXT,
        "warnings?": [TEXT],
        "device_seconds?": NUMBER,
        _IDENTITY: SCORES,
    },
}
#: What the shards of a split are.
MANIFEST = {"digest": TEXT, "shards": [{"file": WORD, "rows": COUNT, "bytes": COUNT, "sha256": SHA256}]}


def check_form(value: Any, form: Form, place: str = "") -> None:
    """Raises ValueError that says where a value, parsed from JSON, has not the form, and what should be there."""
    if isinstance(form, Mapping):
        _check_object(value, form, place)
    elif isinstance(form, list):
        if not isinstance(value, list):
            raise ValueError(_wrong(place, value, "a list"))
        if not value and ... in form:
            raise ValueError(f"{place or 'it'} is empty")
        for number, item in enumerate(value):
            check_form(item, form[0], f"{place}[{number}]")
    elif isinstance(form, tuple):
        if not (value is None and None in form):
            check_form(value, form[0], place)
    elif not form.fits(value):
        raise ValueError(_wrong(place, value, form.says))


def _check_object(value: Any, form: Mapping[Any, Form], place: str) -> None:
    if not isinstance(value, dict):
        raise ValueError(_wrong(place, value, "an object"))
    kinds = [(kind, inner) for kind, inner in form.items() if isinstance(kind, Kind)]
    named = {name.rstrip("?"): inner for name, inner in form.items() if isinstance(name, str)}
    for name in form:
        if isinstance(name, str) and not name.endswith("?") and name not in value:
            raise ValueError(f"it lacks {place}{'.' if place else ''}{name}")
    for name, item in value.items():
        inside = f"{place}{'.' if place else ''}{_short(name)}"
        if name in named:
            check_form(item, named[name], inside)
            continue
        for kind, inner in kinds:
            if kind.fits(name):
                check_form(item, inner, inside)
            elif kind is NAME:
                raise ValueError(f"{inside} is not {kind.says}")


def _wrong(place: str, value: Any, should: str) -> str:
    return f"{place or 'it'} is {_short(value)}, and should be {should}"


def _short(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = value if isinstance(value, str) else repr(value) if not isinstance(value, int) else _digits(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _digits(value: int) -> str:
    """Python refuses to write whole numbers of thousands of digits."""
    return repr(value) if abs(value) < 10**60 else "a number of more than 60 digits"
