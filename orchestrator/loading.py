"""From TOML files and `key=value` to dataclasses: what is written where, and every mistake as a sentence."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

Settings = dict[str, Any]
#: The dataclass of each section, by its name.
Sections = Mapping[str, Any]


def parse(kind: Any, values: Settings, section: str, problems: list[str]) -> Any:
    """The settings of a section as its dataclass; None, and what is wrong, if they are not."""
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        problems += complaints(error, section, kind)
        wrong = {item["loc"][0] for item in error.errors() if item["loc"]}
        required = {field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING}
        # Ranges are checked only when all types are right: tell them in the same message. Without a required key
        # nothing more can be told.
        if wrong and not wrong & required:
            parse(kind, {key: value for key, value in values.items() if key not in wrong}, section, problems)
        return None


def complaints(error: ValidationError, section: str, kind: Any) -> list[str]:
    """Pydantic's findings as sentences: the key, what is wrong, and which keys there are."""
    found = []
    for item in error.errors():
        where = ".".join(str(part) for part in ([section] if section else []) + list(item["loc"]))
        if item["type"] in {"unexpected_keyword_argument", "extra_forbidden"}:
            known = [field.name for field in dataclasses.fields(kind)]
            near = difflib.get_close_matches(str(item["loc"][-1]), known, 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            found.append(f"{where}: there is no such key.{hint} There are: {', '.join(known)}.")
        elif item["type"] == "value_error":
            prefix = f"{section}." if section else ""
            found += [f"{prefix}{part}." for part in str(item["ctx"]["error"]).split("; ")]
        else:
            found.append(f"{where} = {item.get('input')!r}: {item['msg'][0].lower()}{item['msg'][1:]}.")
    return found


def merge_file(settings: Settings, path: Path, sections: Sections, top: Sequence[str]) -> list[str]:
    """Puts a TOML file's settings over those given; what is wrong with it."""
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        return [f"--config {path}: {error.strerror}."]
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        return [f"--config {path}: not valid TOML: {error}."]
    problems = []
    for key, value in content.items():
        if key in sections and isinstance(value, dict):
            settings[key].update(value)
        elif key in top:
            settings[key] = value
        else:
            known = [*top, *(f"[{section}]" for section in sections)]
            near = difflib.get_close_matches(key, [*top, *sections], 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            problems.append(f"{path}: {key}: there is no such key.{hint} There are: {', '.join(known)}.")
    return problems


def assign(settings: Settings, assignment: str, sections: Sections, top: Sequence[str]) -> list[str]:
    """Puts one `key=value` over the settings; what is wrong with it. A bare key that several sections have is
    the first one's."""
    key, equals, text = assignment.partition("=")
    if not equals or not key:
        return [f"--set {assignment}: write --set key=value."]
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    names = {
        field.name: section
        for section in reversed(list(sections))
        for field in dataclasses.fields(sections[section])
    }
    section, dot, rest = key.partition(".")
    if dot and section in sections:
        put(settings, f"{section}.{rest}", value)
    elif key in top:
        settings[key] = value
    elif key in names:
        put(settings, f"{names[key]}.{key}", value)
    else:
        near = difflib.get_close_matches(key, [*names, *top], 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        return [f"--set {key}: there is no such key.{hint} There are: {', '.join(sorted({*names, *top}))}."]
    return []


def put(settings: Settings, name: str, value: Any) -> None:
    """Puts a value under a dotted name."""
    section, dot, key = name.partition(".")
    if dot:
        settings[section][key] = value
    else:
        settings[name] = value
