"""Tables as all commands draw them: headings in bold, numbers to the right, no lines.

A row is one line of output, also where the terminal is narrower: it can be searched, and cut into fields.
"""

from __future__ import annotations

import unicodedata

import click

from eventfn.cli.words import age
from eventfn.observe.status import Depth

_GAP = "  "


class Table:
    def __init__(self, *headings: str) -> None:
        """A heading that starts with ">" is that of a column of numbers."""
        self._numbers = [heading.startswith(">") for heading in headings]
        bold = [click.style(heading.removeprefix(">"), bold=True) if heading else "" for heading in headings]
        self._rows = [bold]

    def add(self, *cells: str, colour: str | None = None) -> None:
        """Cells are safe to show; one may have a style of its own. Line breaks in them become spaces."""
        lines = [" ".join(cell.splitlines()) for cell in cells]
        self._rows.append([click.style(line, fg=colour) if colour and line else line for line in lines])

    def __str__(self) -> str:
        widths = [max(map(_width, column)) for column in zip(*self._rows, strict=True)]
        return "\n".join(_GAP.join(map(_padded, row, widths, self._numbers)).rstrip() for row in self._rows)


def depth_cells(depth: Depth, now_ms: int) -> list[str]:
    """visible, in flight, delayed, age of the oldest."""
    counts = [f"{count:,}" for count in (depth.visible, depth.in_flight, depth.delayed)]
    return [*counts, "" if depth.oldest_ms is None else age(now_ms - depth.oldest_ms)]


def _padded(cell: str, width: int, number: bool) -> str:
    room = " " * (width - _width(cell))
    return room + cell if number else cell + room


def _width(cell: str) -> int:
    """How many columns of a terminal it takes: two for a character of East Asia, none for one that joins another."""
    text = click.unstyle(cell)
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
