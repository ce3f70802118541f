"""Columns that line up, whatever stands in them."""

from __future__ import annotations

import click
from hypothesis import given
from hypothesis import strategies as st

from eventfn.cli.tables import Table


def test_text_is_to_the_left_and_numbers_are_to_the_right() -> None:
    shown = Table("name", ">held", "")
    shown.add("a", "1,000", "note")
    shown.add("longer", "7", "")
    assert click.unstyle(str(shown)).split("\n") == [
        "name     held",
        "a       1,000  note",
        "longer      7",
    ]


def test_colours_take_no_room_and_touch_no_empty_cell() -> None:
    shown = Table("a", "b")
    shown.add("x", "", colour="red")
    shown.add(click.style("yy", bold=True), "z")
    assert str(shown).split("\n")[1:] == ["\x1b[31mx\x1b[0m", "\x1b[1myy\x1b[0m  z"]


def test_wide_and_joining_characters_take_the_columns_of_a_terminal() -> None:
    shown = Table("file", ">n")
    shown.add("写真", "1")
    shown.add("cafe\u0301", "2")
    shown.add("four", "3")
    assert click.unstyle(str(shown)).split("\n")[1:] == ["写真  1", "cafe\u0301  2", "four  3"]


@given(st.lists(st.tuples(st.text(), st.text())))
def test_a_row_is_a_line(rows: list[tuple[str, str]]) -> None:
    shown = Table("a", "b")
    for row in rows:
        shown.add(*row)
    assert len(str(shown).split("\n")) == len(rows) + 1
