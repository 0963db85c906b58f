"""Settings as they are hashed: written apart from their classes' fields, so that a release renames nothing.

A class may grow. What is hashed are the fields that it had when its keys began, for ever under these names, and of
the later ones those that differ from what was done before they existed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

#: The fields of each class when its keys began.
_FIRST: dict[type, tuple[str, ...]] = {}
#: For a field that has no part in what is hashed.
APART: Mapping[str, Any] = {"apart": True}


def keyed(first: str) -> Callable[[type[T]], type[T]]:
    """A class of settings that is hashed: `first` are the names of its fields when its keys began.

    They are written out once more above the class, and never changed again, whatever becomes of its fields.
    """

    def noted(kind: type[T]) -> type[T]:
        _FIRST[kind] = tuple(first.split())
        return kind

    return noted


def first_fields(kind: type) -> tuple[str, ...]:
    """The fields that a class had when its keys began. Raises TypeError if it has no form to be hashed in."""
    for known in kind.__mro__:
        if known in _FIRST:
            return _FIRST[known]
    raise TypeError(f"{kind.__name__} has no form to be hashed in: see `keyed`")


def added(default: Any, *, absent: Any, metadata: Mapping[str, Any] | None = None) -> Any:
    """A field that came after its class's keys began: `absent` is what was done before, and is never changed. At that
    value it is left out of every digest, so that no key of an older store is another one now."""
    return dataclasses.field(default=default, metadata={**(metadata or {}), "absent": absent})


def form(settings: Any) -> Any:
    """A dataclass of settings as plain values, to be hashed; anything else as it is.

    Raises TypeError for a class that has no form, and for a field that is neither in it nor says what was done before
    it existed.
    """
    if isinstance(settings, tuple | list):
        return type(settings)(form(item) for item in settings)
    if not dataclasses.is_dataclass(settings) or isinstance(settings, type):
        return settings
    kind = type(settings)
    found = {name: form(getattr(settings, name)) for name in first_fields(kind)}
    for field in dataclasses.fields(settings):
        if field.name in found or "apart" in field.metadata:
            continue
        if "absent" not in field.metadata:
            raise TypeError(
                f"{kind.__name__}.{field.name} came later and does not say what was done before: see `added`"
            )
        value = getattr(settings, field.name)
        if value != field.metadata["absent"]:
            found[field.name] = form(value)
    return found
