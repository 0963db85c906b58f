"""Writes docs/settings.md from the dataclasses that hold the settings: one home for each sentence.

python docs/settings.py
"""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

from muster.orchestrator.methods.loading import ALL_SECTIONS
from muster.orchestrator.settings.parse import own_first
from muster.orchestrator.settings.texts import field_texts

TARGET = Path(__file__).with_name("settings.md")
HEAD = """# Settings

Each can stand in a TOML file (`--config run.toml`) under its section, or on the command line as
`--set section.key=value` (or `--set key=value` where the name is unique). Flags win over the file, `--set`
over both; a preset (`preset = "paper" | "code" | "glyphs"`) fills in what is not given. Beside the sections,
`preset`, `image_size`, `name` and `storage` stand at the top of the file.

`recipe` is part of a member's key as a whole: changing any field trains other members. `view` names the
vectors, not the weights. Nothing in `resources` changes a result.
"""


def page() -> str:
    """The page, as Markdown."""
    parts = [HEAD]
    for section, kind in ALL_SECTIONS.items():
        docs = field_texts(kind)
        parts.append(
            f"\n## [{section}]\n\n{inspect.getdoc(kind)}\n\n| key | default | |\n| --- | --- | --- |\n"
        )
        for field in own_first(kind):
            default = "required" if field.default is dataclasses.MISSING else f"`{field.default!r}`"
            parts.append(f"| `{field.name}` | {default} | {docs[field.name].replace('|', '/')} |\n")
    return "".join(parts)


if __name__ == "__main__":
    TARGET.write_text(page())
