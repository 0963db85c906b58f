"""The text below each field of a settings class: the help of its flag, and its line of docs/settings.md."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Mapping
from typing import Any


@functools.cache
def field_texts(kind: Any) -> Mapping[str, str]:
    """The text of each field of a dataclass, those of its base classes included; "" where there is none."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0].body  # type: ignore[attr-defined]
        for node, following in zip(body, [*body[1:], None], strict=True):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
                found[node.target.id] = str(following.value.value) if is_text else ""
    return found
