"""Methods are objects: flags run backwards, older runs are read, and no shared code names one."""

from __future__ import annotations

import ast
import dataclasses
import json
import random
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from muster.orchestrator.cli.launch import LaunchGroup
from muster.orchestrator.cli.made import settings_of
from muster.orchestrator.methods.command import launch_command
from muster.orchestrator.methods.flags import flags_of
from muster.orchestrator.methods.loading import load, parse_request
from muster.orchestrator.methods.registry import FRONTENDS
from muster.orchestrator.settings.request import LaunchRequest
from muster.workers.errors import UsageError
from muster.workers.methods.registry import FLOOR, METHODS, NAMES
from tests import ROOT

TRIES = 40
#: Values that text settings take, by name; others are drawn from the field's type.
TEXTS: dict[str, list[Any]] = {
    "resize": ["squash:40", "short:48", "white:64"],
    "backbone": ["conv4", "resnet18", "googlenet"],
    "weights": ["none", "imagenet", "some weights.pt"],
    "dataset": ["glyphs"],
    "root": [None, "a folder/with blanks", "-odd"],
    "eval_memory": ["2GB", "512MB"],
    "milestones": [(), (0.5,), (0.25, 0.75)],
    "sizes": [(4, 6), (96,), (8, 8, 8)],
}


def drawn(field: Any, hint: Any, draw: random.Random) -> Any:
    """A value of a field's type; it need not fit the others."""
    if field.name in TEXTS:
        return draw.choice(TEXTS[field.name])
    kinds = get_args(hint) if get_origin(hint) is not tuple else ()
    if kinds and all(isinstance(kind, str) for kind in kinds):
        return draw.choice(kinds)
    if get_origin(hint) is tuple:
        return (0.25, 0.5, 0.75)
    if hint is bool:
        return draw.random() < 0.5
    number = draw.choice([0, 1, 2, 3, 4, 16, 24, 64])
    return number if hint is int else draw.choice([0.0, 0.1, 0.5, 1.0, 2.0, 1e-4, 3e5])


def requests_of(method: str, draw: random.Random) -> Iterator[LaunchRequest]:
    """Requests of a method with some settings drawn at random; those that are refused are left out."""
    frontend = FRONTENDS[method]
    fields = [
        (f"{section}.{field.name}", field, get_type_hints(kind)[field.name])
        for section, kind in frontend.sections.items()
        for field in dataclasses.fields(kind)
    ]
    for _ in range(12 * TRIES):
        chosen = draw.sample(fields, draw.randint(0, 4))
        values = {name: drawn(field, hint, draw) for name, field, hint in chosen}
        preset = draw.choice([None, *frontend.presets])
        name = draw.choice(["", "a-name"])
        given = {
            **frontend.stand_ins,
            **values,
            "method": method,
            "preset": preset,
            "name": name,
            "storage": "a store",
        }
        try:
            yield load(None, given, [])
        except UsageError:
            continue


def typed(words: list[str]) -> LaunchRequest:
    """What a command line asks for, by the command's own parser and loader."""
    muster, launch, method, *rest = words
    assert (muster, launch) == ("muster", "launch")
    command = LaunchGroup(name="launch").get_command(None, method)
    given = command.make_context(method, rest).params
    flags = settings_of(flags_of(FRONTENDS[method]), given)
    return load(given["config"], {**flags, "method": method}, list(given["set_"] or []))


@pytest.mark.parametrize("method", NAMES)
def test_the_command_of_a_request_asks_for_that_request(method: str) -> None:
    seen = set()
    for request in requests_of(method, random.Random(method)):
        assert typed(shlex.split(launch_command(request))) == request
        seen.add(json.dumps(request.document(), sort_keys=True))
        if len(seen) == TRIES:
            break
    assert len(seen) == TRIES


@pytest.mark.parametrize("method", NAMES)
def test_every_flag_has_a_help_a_panel_and_a_default(method: str) -> None:
    flags = list(flags_of(FRONTENDS[method]))
    assert len({flag.name for flag in flags}) == len(flags)
    assert all(flag.text and flag.panel for flag in flags)


@pytest.mark.parametrize("method", NAMES)
def test_a_request_is_read_back_from_what_a_run_keeps(method: str) -> None:
    for request in list(requests_of(method, random.Random(f"kept {method}")))[:5]:
        saved = json.loads(json.dumps(request.document()))
        assert saved["format"] == 2
        found = parse_request(saved, "run.json")
        assert found == request
        assert found.identity() == request.identity()


def test_a_request_of_the_first_format_is_the_same_request() -> None:
    """It named all methods' settings, whichever it asked for."""
    (request,) = list(requests_of("bier", random.Random(5)))[:1]
    saved = json.loads(json.dumps(request.document()))
    first = {**{name: saved[name] for name in saved if name not in {"format", "muster"}}, "baseline": None}
    assert parse_request(first, "run.json") == request


def test_a_method_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match=r"there are dreml, bier, .*Did you mean bier"):
        load(None, {"method": "beir"}, [])
    with pytest.raises(UsageError, match=r"run\.json: method = 'alchemy': there are"):
        parse_request({"method": "alchemy"}, "run.json")


def test_a_capability_is_one_in_which_methods_differ_and_there_are_few() -> None:
    able = [field.name for field in dataclasses.fields(METHODS["dreml"]) if field.type == "bool"]
    assert 0 < len(able) <= 4
    for name in able:
        assert {getattr(method, name) for method in [*METHODS.values(), FLOOR]} == {True, False}, name


# No code but a method's own names it.

#: Where methods may be named: their folders, the registries, what older runs hold, and the papers' own data.
NAMED_IN = (
    "workers/methods/", "orchestrator/methods/", "orchestrator/settings/compat.py",
    "orchestrator/jobs/reproduce/tables/",
    "orchestrator/jobs/reproduce/figures/", "orchestrator/jobs/reproduce/targets.py",
)  # fmt: skip
#: Words of the command line and of its documents that are a method's name by chance, or point to a page about it.
EXCEPT = {
    "orchestrator/runs/correlate.py": {"baseline"},  # the run that another is compared with
    "orchestrator/cli/runs.py": {"baseline"},  # the same, as a flag
    "workers/train/label_batches.py": {"bier"},  # names of random draws, which stay for ever
    "workers/datasets/cars196.py": {"dreml"},  # the paper that gives the counts
    "workers/datasets/cub200.py": {"dreml"},
}
#: The shared files of the methods' rooms.
SHARED = {"base.py", "flags.py", "loading.py", "command.py", "presets.py", "registry.py", "__init__.py"}


def words_of(path: Path) -> Iterator[tuple[int, str]]:
    """All words that a file's identifiers, imports and strings are made of; docstrings explain, and are left out."""
    tree = ast.parse(path.read_text())
    explained = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        texts: list[str] = []
        for name in ("id", "name", "attr", "arg", "module", "asname"):
            if isinstance(found := getattr(node, name, None), str):
                texts.append(found)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in explained:
            texts.append(node.value)
        for text in texts:
            for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", re.sub(r"docs/\w+\.md", "", text)):
                yield getattr(node, "lineno", 0), word.lower()


def test_no_code_outside_the_methods_folders_names_a_method() -> None:
    found = []
    for room in ("orchestrator", "workers", "cluster"):
        for path in sorted((ROOT / room).rglob("*.py")):
            where = path.relative_to(ROOT).as_posix()
            shared = path.parent.name == "methods" and path.name in SHARED - {"registry.py"}
            if where.startswith(NAMED_IN) and not shared:
                continue
            allowed = EXCEPT.get(where, set())
            found += [
                f"{where}:{line}: {word}" for line, word in words_of(path) if word in set(NAMES) - allowed
            ]
    assert found == []


def test_the_check_of_names_would_notice_one(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text('"""About bier."""\nfrom a.bier import BierSpec\nx = "launch dreml"\ny = isBaseline\n')
    assert {word for _, word in words_of(planted)} >= {"bier", "dreml", "baseline"}
    assert [line for line, word in words_of(planted) if word == "bier"] == [2, 2]
