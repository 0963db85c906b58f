"""From TOML files and `key=value` to dataclasses: what is written where, and every mistake as a sentence."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from muster.workers.errors import UsageError

Settings = dict[str, Any]
#: A configuration is pages long; a device has no end.
MOST_BYTES = 1_000_000
#: The dataclass of each section, by its name.
Sections = Mapping[str, Any]


def parse(
    kind: Any, values: Settings, section: str, problems: list[str], defaults: Mapping[str, Any] | None = None
) -> Any:
    """The settings of a section as its dataclass, over a preset's `defaults`; None, and what is wrong, if they
    are not."""
    defaults = defaults or {}
    empty = [key for key, value in values.items() if isinstance(value, str) and not value.strip()]
    problems += [f"{section}.{key} is empty: give it a value or leave it out." for key in empty]
    values = {key: value for key, value in values.items() if key not in empty}
    try:
        return _adapter(kind).validate_python({**defaults, **values})
    except ValidationError as error:
        problems += complaints(error, section, kind)
        wrong = {item["loc"][0] for item in error.errors() if item["loc"]}
        required = {field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING}
        # Ranges are checked only when all types are right: tell them in the same message, with the defaults standing
        # in. Without a required key that has none, nothing more can be told.
        if wrong & values.keys() and not wrong & (required - defaults.keys()):
            fine = {key: value for key, value in values.items() if key not in wrong}
            parse(kind, fine, section, problems, defaults)
        return None


def parse_saved(kind: Any, saved: Mapping[str, Any], where: str) -> Any:
    """A request from the JSON that a run's folder keeps; `where` names it. Raises UsageError with all that is wrong."""
    try:
        return _adapter(kind).validate_python(dict(saved))
    except ValidationError as error:
        raise UsageError([f"{where}: {text}" for text in complaints(error, "", kind)]) from error


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Made once: a search parses the settings of each of its trials."""
    return TypeAdapter(kind)


def complaints(error: ValidationError, section: str, kind: Any) -> list[str]:
    """Pydantic's findings as sentences: the key, what is wrong, and which keys there are."""
    found = []
    for item in error.errors():
        inside = ".".join(str(part) for part in item["loc"])
        where = ".".join(part for part in (section, inside) if part)
        if item["type"] in {"unexpected_keyword_argument", "extra_forbidden"}:
            known = [field.name for field in own_first(kind)]
            near = difflib.get_close_matches(str(item["loc"][-1]), known, 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            found.append(f"{where}: there is no such key.{hint} There are: {', '.join(known)}.")
        elif item["type"] == "value_error":
            prefix = f"{where}." if where else ""
            found += [f"{prefix}{part}." for part in str(item["ctx"]["error"]).split("; ")]
        elif item["type"] == "missing":
            found.append(f"{where} is missing.")
        else:
            found.append(f"{where} = {item.get('input')!r}: {_plain(item['type'], item['msg'])}.")
    return found


def own_first(kind: Any) -> list[Any]:
    """The fields of a dataclass, those of its base classes last: its own are what one looks for."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    own = {name: fields[name] for name in kind.__annotations__ if name in fields}
    return list({**own, **fields}.values())


#: What pydantic says in words of Python's.
PLAIN = {
    "string_type": "must be text, in quotes",
    "tuple_type": "must be a list, as [1, 2]",
    "dataclass_type": "must be a section with keys",
    "int_from_float": "must be a valid integer, without a fraction",
}


def _plain(kind: str, message: str) -> str:
    text = message.partition(", unable to ")[0]
    return PLAIN.get(kind) or f"{text[0].lower()}{text[1:]}".replace("input should be", "must be")


def short_digest(identity: Settings) -> str:
    """Part of the name of a run that was given none, so that the same request finds its run again."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:6]


def replaced(settings: Any, changes: Mapping[str, Any], section: str = "") -> Any:
    """A dataclass of settings with changes that a user asked for. Raises UsageError with all that is wrong."""
    try:
        return dataclasses.replace(settings, **changes)
    except ValueError as error:
        raise UsageError([f"{section}{part}." for part in str(error).split("; ")]) from error


def merge_file(settings: Settings, path: Path, sections: Sections, top: Sequence[str]) -> list[str]:
    """Puts a TOML file's settings over those given; what is wrong with it."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            return [f"--config {path}: larger than {MOST_BYTES // 1000} kB: is it a configuration?"]
        content = tomllib.loads(data.decode("utf-8-sig"))  # editors on Windows begin with a mark
    except OSError as error:
        return [f"--config {path}: {error.strerror}."]
    except RecursionError:
        return [f"--config {path}: nested too deeply."]
    except ValueError as error:  # of TOML, of UTF-8, or of an integer of thousands of digits
        return [f"--config {path}: not valid TOML: {error}."]
    problems = []
    for key, value in content.items():
        if key in sections:
            if isinstance(value, dict):
                settings[key].update(value)
            else:
                problems.append(f"{path}: {key} is a section: write [{key}] once, and its keys below it.")
        elif key in top:
            settings[key] = value
        else:
            known = [*top, *(f"[{section}]" for section in sections)]
            near = difflib.get_close_matches(key, [*top, *sections], 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            problems.append(f"{path}: {key}: there is no such key.{hint} There are: {', '.join(known)}.")
    return problems


def assign(
    settings: Settings,
    assignment: str,
    sections: Sections,
    top: Sequence[str],
    foreign: Sections = MappingProxyType({}),
) -> list[str]:
    """Puts one `key=value` over the settings; what is wrong with it. An unqualified key resolves to the first section
    that defines it; the `foreign` sections are another method's, to be refused as that."""
    key, equals, text = assignment.partition("=")
    if not equals or not key:
        return [f"--set {assignment}: write --set key=value."]
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except RecursionError:
        return [f"--set {key}: nested too deeply."]
    except ValueError:  # no TOML, or an integer of thousands of digits
        value = text
    names = {
        field.name: section
        for section in reversed(list(sections))
        for field in dataclasses.fields(sections[section])
    }
    section, dot, rest = key.partition(".")
    if dot and (section in sections or section in foreign):
        put(settings, f"{section}.{rest}", value)
    elif key in top:
        settings[key] = value
    elif key in names:
        put(settings, f"{names[key]}.{key}", value)
    else:
        near = difflib.get_close_matches(key, [*names, *top], 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        return [f"--set {key}: there is no such key.{hint} docs/settings.md lists them all."]
    return []


def put(settings: Settings, name: str, value: Any) -> None:
    """Puts a value under a dotted name."""
    section, dot, key = name.partition(".")
    if dot:
        settings[section][key] = value
    else:
        settings[name] = value
