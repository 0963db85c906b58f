"""What a method is on its way from a user to a request: its command, its sections, its presets and its parser."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from muster.orchestrator.methods import presets
from muster.orchestrator.settings.parse import Settings, parse
from muster.orchestrator.settings.request import DataRequest, EnsembleSettings, MethodRequest
from muster.orchestrator.settings.resources import Resources
from muster.workers.datasets import Traits
from muster.workers.spec import InputRecipe, TestView

#: The sections that every method has.
COMMON: Mapping[str, type] = {
    "data": DataRequest,
    "ensemble": EnsembleSettings,
    "view": TestView,
    "resources": Resources,
}


class Parts(NamedTuple):
    """What a method makes of the settings; None where a section is wrong, which is told elsewhere."""

    preset: str
    ensemble: EnsembleSettings | None
    parts: Mapping[str, Any]
    "The fields of the method's own part of the request."
    view: Settings
    "The test view's defaults."


@dataclass
class Given:
    """What was given for a request, section by section. Mistakes gather in `problems`, to be told at once."""

    settings: Settings
    dataset: str
    traits: Traits
    problems: list[str]

    def section(
        self, name: str, kind: Any, defaults: Settings | None = None, values: Settings | None = None
    ) -> Any:
        """A section as its dataclass, over `defaults`; None if it is wrong. `values` in place of what was given."""
        return parse(kind, self.settings[name] if values is None else values, name, self.problems, defaults)

    @property
    def weights(self) -> str:
        """The initial weights, as given: "none" where nothing is."""
        return str(self.settings["ensemble"].get("weights") or "none")

    def usual(self, key: str, value: Any) -> None:
        """What a key of [ensemble] is where it is not given, if the data set has something of its own."""
        if value:
            self.settings["ensemble"].setdefault(key, value)

    def preset(self, known: Iterable[str], usual: str, stand_in: str) -> str:
        """The preset's name; `stand_in` for one that there is not, so that the rest is checked too."""
        found = str(self.settings.get("preset") or usual)
        if found in known:
            return found
        self.problems.append(f"preset = {found!r}: there are {', '.join(known)}.")
        return stand_in

    def picture_side(self) -> int:
        """The picture size in pixels: as given, or what the data set takes."""
        side = self.settings.get("image_size")
        problem = None if side is None else presets.side_problem(side)
        if problem:
            self.problems.append(problem)
        return self.traits.picture_side if side is None or problem else int(side)

    def one_model(self, dimension: int | None, causes: Mapping[str, str]) -> EnsembleSettings | None:
        """The section [ensemble] of a method of one model; `causes` says why D and L are no settings of it."""
        given = self.settings["ensemble"]
        self.problems += [f"ensemble.{key}: {cause}." for key, cause in causes.items() if key in given]
        kept = {key: value for key, value in given.items() if key not in causes}
        shape = {"D": max(2, dimension or 2), "L": 1}
        found: EnsembleSettings | None = self.section("ensemble", EnsembleSettings, values={**kept, **shape})
        return found


@dataclass(frozen=True)
class Frontend:
    """A method as the command line knows it."""

    name: str
    help: str
    "What `muster launch NAME` says it does."
    request_type: type[MethodRequest]
    recipe_type: type[InputRecipe]
    presets: Sequence[str]
    parse: Callable[[Given], Parts]
    own: Mapping[str, type] = field(default_factory=dict)
    "Its own sections."
    top: tuple[str, ...] = ()
    "Its own settings that stand in no section."
    stand_ins: Mapping[str, Any] = field(default_factory=dict)
    "By dotted name, values for what only a user can give, so that the rest can be shown without it."

    @property
    def sections(self) -> dict[str, type]:
        """All sections; a bare key of `--set` that several have is the first one's."""
        return {**self.own, "recipe": self.recipe_type, **COMMON}
