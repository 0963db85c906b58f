"""What a search varies: each axis is one of the method's settings, and the values it may take.

An axis is written as a list, `12,25,50,100`, or as a range with a scale, `LOW..HIGH[:linear|log][:POINTS]`.
A grid takes the list, or POINTS values of the range (4 if none are named); random and Optuna draw from the
list or anywhere in the range. It knows nothing of trials, members or Ray.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import math
import sys
import tomllib
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from muster.orchestrator.methods.registry import FRONTENDS
from muster.workers.methods.registry import METHODS
from muster.workers.networks.own_code import own_network
from muster.workers.rng import uniforms

POINTS = 4
#: Each is prepared before any is trained, and people read a row of each.
MOST_TRIALS = 1000
Value = int | float | str | bool
_KINDS = (int, float, bool, str)


@dataclass(frozen=True)
class Axis:
    """One searched setting: `values` if it was given as a list, else a range."""

    key: str
    setting: str
    "Its dotted name."
    kind: type
    values: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0
    scale: Literal["linear", "log"] = "linear"
    points: int = POINTS

    def grid(self) -> tuple[Value, ...]:
        """The values of a grid, each once, in the order given."""
        if self.values:
            return self.values
        spaced = np.geomspace if self.scale == "log" else np.linspace
        return tuple(dict.fromkeys(self._whole(x) for x in spaced(self.low, self.high, self.points)))

    def at(self, share: float) -> Value:
        """The value at a share in 0..1 of the axis: what a uniform draw becomes."""
        if self.values:
            return self.values[min(int(share * len(self.values)), len(self.values) - 1)]
        if self.scale == "log":
            return self._whole(math.exp(math.log(self.low) + share * (math.log(self.high / self.low))))
        return self._whole(self.low + share * (self.high - self.low))

    @property
    def largest(self) -> Value:
        """The largest value it can take; of numbers only."""
        return max(self.values) if self.values else self.high

    def _whole(self, value: float) -> Value:
        return round(value) if self.kind is int else float(f"{value:.6g}")


class Searchable(NamedTuple):
    """A setting that can be searched."""

    setting: str
    "Its dotted name."
    kind: type


def searchable(method: str) -> dict[str, Searchable]:
    """By key, what can be searched of a method: D where it trains an ensemble, the backbone, and the plain fields of
    its own settings and its recipe."""
    frontend = FRONTENDS[method]
    shape = ["D"] if METHODS[method].ensemble else []
    fields = [("ensemble", frontend.sections["ensemble"], key) for key in (*shape, "backbone")]
    for section in (*frontend.own, "recipe"):
        kind = frontend.sections[section]
        fields += [(section, kind, field.name) for field in dataclasses.fields(kind)]
    fields += [("", frontend.request_type, key) for key in frontend.top]
    found: dict[str, Searchable] = {}
    for section, owner, key in fields:
        hint = typing.get_type_hints(owner)[key]
        chosen = typing.get_origin(hint) is Literal
        if chosen or (hint in _KINDS and section):  # a name at the top is no choice of a method's
            found.setdefault(key, Searchable(f"{section}.{key}" if section else key, str if chosen else hint))
    return found


def parse_axes(specs: Mapping[str, str], method: str, problems: list[str]) -> tuple[Axis, ...]:
    """The axes of `key: spec`, the keys bare or dotted; every mistake becomes a sentence in `problems`."""
    axes: dict[str, Axis] = {}
    known = searchable(method)
    keys = {found.setting: key for key, found in known.items()}
    for name, spec in specs.items():
        key = keys.get(name, name)
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            problems.append(
                f"--search {name}: there is no such key to search.{hint} There are: {', '.join(known)}."
            )
            continue
        if key in axes:
            problems.append(f"--search {name}: {key} is searched already; give all of its values at once.")
            continue
        try:
            axes[key] = _parse(key, known[key], spec)
        except ValueError as error:
            shown = f"--D {spec}".rstrip() if name == "D" else f"--search {name}={spec}"
            problems.append(f"{shown}: {error}.")
    return tuple(axes.values())


def _parse(key: str, found: Searchable, spec: str) -> Axis:
    kind = found.kind
    if not spec.strip():
        raise ValueError("is empty; write values, as 12,25,50, or a range, as 12..100:log")
    if ".." in spec and kind in {int, float}:
        return _parse_range(key, found, spec)
    parts = [part.strip() for part in spec.split(",")]
    if not all(parts):
        raise ValueError("has an empty value; write values, as 12,25,50, or a range, as 12..100:log")
    if key == "backbone" and any(map(own_network, parts)):
        raise ValueError(
            "a network of your own is not one of several; search with it: --backbone MODULE:FACTORY"
        )
    return Axis(key, found.setting, kind, tuple(dict.fromkeys(_value(kind, part) for part in parts)))


def _parse_range(key: str, found: Searchable, spec: str) -> Axis:
    bounds, *options = spec.split(":")
    low, high = (_value(found.kind, part.strip()) for part in [*bounds.split(".."), ""][:2])
    assert isinstance(low, int | float)
    assert isinstance(high, int | float)
    scale: Literal["linear", "log"] = "linear"
    points = POINTS
    for option in options:
        if option in {"linear", "log"}:
            scale = "log" if option == "log" else "linear"
        elif option.isdecimal() and len(option) <= len(str(MOST_TRIALS)) and 2 <= int(option) <= MOST_TRIALS:
            points = int(option)
        else:
            raise ValueError(
                f"{option!r} is neither linear, log nor a number of points from 2 to {MOST_TRIALS}"
            )
    if not low < high:
        raise ValueError("the range is empty: write the lower bound first, as 12..100")
    if scale == "log" and low <= 0:
        raise ValueError("a log scale needs a lower bound above 0")
    return Axis(key, found.setting, found.kind, (), float(low), float(high), scale, points)


def _value(kind: type, text: str) -> Value:
    if kind is str:
        return text
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except ValueError:  # no TOML, or an integer of thousands of digits
        value = None
    names = {int: "a whole number", float: "a number", bool: "true or false"}
    if isinstance(value, bool) != (kind is bool) or not isinstance(value, int | float):
        raise ValueError(f"{text!r} is not {names[kind]}")
    if not abs(value) <= sys.float_info.max:  # an integer may be larger than any other number
        raise ValueError(f"{text!r} is not finite")
    if kind is int and value != int(value):
        raise ValueError(f"{text!r} is not {names[kind]}")
    found: Value = kind(value)
    return found


def grid(axes: tuple[Axis, ...]) -> list[dict[str, Value]]:
    """Every combination, the first axis varying slowest."""
    keys = [axis.key for axis in axes]
    return [
        dict(zip(keys, found, strict=True)) for found in itertools.product(*(axis.grid() for axis in axes))
    ]


def draws(axes: tuple[Axis, ...], samples: int, seed: int) -> list[dict[str, Value]]:
    """`samples` random combinations, a function of the seed; one that was drawn before is left out."""
    found: list[dict[str, Value]] = []
    for row in uniforms(("search", seed), samples, len(axes)):
        drawn = {axis.key: axis.at(float(share)) for axis, share in zip(axes, row, strict=True)}
        if drawn not in found:
            found.append(drawn)
    return found
