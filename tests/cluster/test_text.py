"""Names and messages from elsewhere can't act on a terminal."""

from __future__ import annotations

import pytest

from muster.cluster.text import printable, without_colours


@pytest.mark.parametrize(
    ("raw", "seen"),
    [
        ("plain name.jpg", "plain name.jpg"),
        ("Straße 日本", "Straße 日本"),
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f468\u200d\U0001f469\u200d\U0001f467"),
        ("red\x1b[31m.jpg", "red\\x1b[31m.jpg"),
        ("title\x1b]0;gone\x07", "title\\x1b]0;gone\\x07"),
        ("back\x08space\x7f\r", "back\\x08space\\x7f\\r"),
        ("c1\x9b31m", "c1\\x9b31m"),
        ("right\u202eto left", "right\\u202eto left"),
        ("iso\u2066late", "iso\\u2066late"),
        ("line\u2028separator", "line\\u2028separator"),
        ("caf\udce9", "caf\\xe9"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
    ],
)  # fmt: skip
def test_what_would_act_is_seen_instead(raw: str, seen: str) -> None:
    assert printable(raw) == seen


def test_lines_are_one_where_that_is_asked_for() -> None:
    assert printable("two\nlines", keep="") == "two\\nlines"


@pytest.mark.parametrize(
    "coloured",
    ["\x1b[31mred\x1b[0m", "\x1b[38;5;196mred\x1b[39m", "\x1b]8;;http://x\x1b\\red\x1b]8;;\x1b\\", "r\x1b[2Ked",
     "\x1b(Bred", "\x1b]0;title\x07red"],
)  # fmt: skip
def test_escape_codes_of_a_program_are_taken_out(coloured: str) -> None:
    assert without_colours(coloured) == "red"
