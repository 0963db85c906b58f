"""The flags of a method's settings, read off the settings' own fields: name, type, help and default."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

from muster.orchestrator.methods.base import Frontend, Given
from muster.orchestrator.settings.parse import put
from muster.orchestrator.settings.request import DataRequest
from muster.orchestrator.settings.texts import field_texts
from muster.workers import datasets
from muster.workers.methods.registry import METHODS

#: What stands at the top of a file and is a flag, with its help.
TOP_FLAGS: Mapping[str, str] = {
    "preset": "Settings by name: {presets}. (default: the data set's)",
    "image_size": "Picture side in px. (default: the preset's)",
    "name": "The run's name. (default: made from the request)",
    "storage": "Root folder or URI of the store. (default: store)",
}
#: Those of any job.
JOB_FLAGS = ("name", "storage")
#: Panels of the help, in their order, by the sections that stand in them; a method's own settings are its recipe.
PANELS = {
    "search": "Search",
    "reproduce": "Reproduction",
    "data": "Data",
    "ensemble": "Ensemble",
    "recipe": "Recipe",
    "resources": "Resources",
    "run": "Run",
}


class Flag(NamedTuple):
    """One flag of `muster launch METHOD`."""

    setting: str
    'Its dotted name: "ensemble.D", or "preset" at the top.'
    name: str
    kind: type
    "int, float, bool or str; a list is written as text, its parts by commas."
    default: Any
    "The field's; MISSING where it must come from a preset or the user."
    text: str
    variable: str = ""

    @property
    def section(self) -> str:
        return self.setting.rpartition(".")[0]

    @property
    def panel(self) -> str:
        """What it stands under in the help."""
        if self.setting in JOB_FLAGS:
            return PANELS["run"]
        return PANELS.get(self.section, PANELS["recipe"])

    @property
    def declarations(self) -> tuple[str, ...]:
        """How it is written: a switch that is on by default can be turned off."""
        if self.kind is bool and self.default is True:
            return (f"{self.name}/--no-{self.name.removeprefix('--')}",)
        return (self.name,)


def flags_of(frontend: Frontend) -> Iterator[Flag]:
    """All flags of a method's settings, section by section."""
    able = METHODS[frontend.name]
    own = {"": frontend.request_type, **frontend.sections}
    for section, kind in own.items():
        for field in flagged(kind):
            only = field.metadata["only"]
            if not only or getattr(able, only):
                yield flag_of(section, kind, field)
    yield from (top_flag(setting, frontend.presets) for setting in TOP_FLAGS)


#: What `muster data` does not ask for: it names its data set otherwise, and takes all classes.
NO_PICTURES = {"dataset", "root", "train_classes", "val_classes"}


def picture_flags() -> list[Flag]:
    """The flags of how pictures are read, for commands that train nothing."""
    found = [
        flag_of("data", DataRequest, field) for field in flagged(DataRequest) if field.name not in NO_PICTURES
    ]
    test_list = next(field for field in dataclasses.fields(DataRequest) if field.name == "test_list")
    return [*found, flag_of("data", DataRequest, test_list)]


def top_flag(setting: str, presets: Iterable[str] = ()) -> Flag:
    """The flag of what stands at the top of a file."""
    kind = int if setting == "image_size" else str
    text = TOP_FLAGS[setting].format(presets=", ".join(presets))
    variable = "MUSTER_STORAGE" if setting == "storage" else ""
    return Flag(setting, f"--{setting.replace('_', '-')}", kind, None, text, variable)


def flagged(kind: Any) -> list[Any]:
    """The fields of a class of settings that are flags."""
    return [field for field in dataclasses.fields(kind) if "flag" in field.metadata]


def flag_of(section: str, kind: Any, field: Any) -> Flag:
    """The flag of a field."""
    hint = get_type_hints(kind)[field.name]
    plain = next((one for one in (hint, *get_args(hint)) if one in {int, float, bool, str}), str)
    return Flag(
        f"{section}.{field.name}" if section else field.name,
        field.metadata.get("flag") or f"--{field.name.replace('_', '-')}",
        str if get_origin(hint) is tuple else plain,
        field.default,
        field_texts(kind)[field.name],
    )


def help_text(flag: Flag, by_preset: Mapping[str, Mapping[str, Any]]) -> str:
    """A flag's help with its default: the field's, or those of the presets where they differ from it."""
    values = {preset: found[flag.setting] for preset, found in by_preset.items() if flag.setting in found}
    shown = {preset: _shown(value) for preset, value in values.items()}
    if len(set(shown.values())) > 1:
        text = ", ".join(f"{preset} {value}" for preset, value in shown.items())
    else:
        text = next(iter(shown.values()), _shown(flag.default))
    return f"{flag.text} (default: {text})" if text and "(default" not in flag.text else flag.text


def _shown(value: Any) -> str:
    """A default as it would be typed; "" for what says nothing: none, off, or given by nobody."""
    if value is None or value is False or value is dataclasses.MISSING or value == "":
        return ""
    if value is True:
        return "on"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def preset_values(frontend: Frontend) -> dict[str, dict[str, Any]]:
    """The settings that each preset of a method comes to, by dotted name, on a data set that takes it."""
    found = {}
    made = [datasets.open_data_set(name, ".") for name in datasets.NAMES if name not in datasets.OWN]
    for preset in frontend.presets:
        data = next((one for one in made if one.traits.preset == preset), made[-1])
        settings: dict[str, Any] = {name: {} for name in frontend.sections} | {"preset": preset}
        for name, value in frontend.stand_ins.items():
            put(settings, name, value)
        parts = frontend.parse(Given(settings, data.name, data.traits, []))
        sections = {**parts.parts, "ensemble": parts.ensemble}
        found[preset] = {
            f"{section}.{field.name}": getattr(value, field.name)
            for section, value in sections.items()
            if dataclasses.is_dataclass(value)
            for field in dataclasses.fields(value)
        }
    return found
