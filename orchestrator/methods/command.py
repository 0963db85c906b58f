"""The command that asks for exactly what a request asks for: flags run backwards."""

from __future__ import annotations

import dataclasses
import shlex
import tomllib
from collections.abc import Mapping
from typing import Any

from muster.orchestrator.methods.flags import Flag, flags_of
from muster.orchestrator.methods.loading import load
from muster.orchestrator.methods.registry import FRONTENDS
from muster.orchestrator.settings.request import LaunchRequest

#: What a command always says, though the defaults may give it.
ALWAYS = ("data.dataset", "data.root", "ensemble.D", "ensemble.L", "ensemble.backbone", "preset")


def launch_command(request: LaunchRequest) -> str:
    """`muster launch ...` as a shell takes it; what the defaults give is left out."""
    flags = {flag.setting: flag for flag in flags_of(FRONTENDS[request.method])}
    words = ["muster", "launch", request.method]
    for name, value in said_settings(request).items():
        words += _said(flags[name], value) if name in flags else ["--set", f"{name}={_toml(value)}"]
    if request.name:
        words += ["--name", request.name]
    return shlex.join([*words, "--storage", request.storage])


def said_settings(request: LaunchRequest) -> dict[str, Any]:
    """The settings by dotted name that make the request; what the defaults give beside them is left out."""
    flags = {flag.setting: flag for flag in flags_of(FRONTENDS[request.method])}
    wanted = _settings(request)
    required = [name for name, flag in flags.items() if flag.default is dataclasses.MISSING]
    said = {
        name: wanted[name] for name in (*ALWAYS, *required) if name in flags and wanted.get(name) is not None
    }
    while rest := _lacking(request, said, wanted):
        said |= rest
    return said


def _lacking(request: LaunchRequest, said: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What the defaults would still give otherwise. A setting can change the defaults of others."""
    found = _settings(load(None, {**said, "method": request.method}, []))
    return {name: value for name, value in wanted.items() if name not in said and value != found[name]}


def _settings(request: LaunchRequest) -> dict[str, Any]:
    """All settings of a request by dotted name, but for those that follow from others, name and storage."""
    frontend = FRONTENDS[request.method]
    sections = {
        name: getattr(request.settings, name, None) or getattr(request, name) for name in frontend.sections
    }
    found = {
        f"{section}.{field.name}": getattr(value, field.name)
        for section, value in sections.items()
        for field in dataclasses.fields(value)
    }
    flags = {flag.setting for flag in flags_of(frontend)}
    derived = {"ensemble.D", "ensemble.L"} - flags
    top = {name: getattr(request.settings, name) for name in frontend.top}
    return (
        {name: value for name, value in found.items() if name not in derived}
        | top
        | {"preset": request.preset}
    )


def _said(flag: Flag, value: Any) -> list[str]:
    if flag.kind is bool:
        switch, _, off = flag.declarations[0].partition("/")
        return [switch if value else off] if value or off else ["--set", f"{flag.setting}=false"]
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return [f"{flag.name}={text}"] if text.startswith("-") else [flag.name, text]


def _toml(value: Any) -> str:
    """A value as `--set` reads it back: text stays bare where it is no other value of TOML's."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return str(list(value))
    text = str(value)
    if not isinstance(value, str):
        return text
    try:
        tomllib.loads(f"value = {text}")
    except ValueError:
        return text
    return f"'{text}'"
