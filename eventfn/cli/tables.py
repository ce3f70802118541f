"""Tables as all commands draw them: no lines, headings in bold, numbers to the right."""

from __future__ import annotations

from rich.table import Table

from eventfn.cli.words import age
from eventfn.observe.status import Depth


def table(*headings: str) -> Table:
    """A heading that starts with ">" is that of a column of numbers. Cells are text, not markup."""
    made = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for heading in headings:
        numbers = heading.startswith(">")
        made.add_column(heading.removeprefix(">"), justify="right" if numbers else "left", no_wrap=numbers)
    return made


def depth_cells(depth: Depth, now_ms: int) -> list[str]:
    """visible, in flight, delayed, age of the oldest."""
    counts = [f"{count:,}" for count in (depth.visible, depth.in_flight, depth.delayed)]
    return [*counts, "" if depth.oldest_ms is None else age(now_ms - depth.oldest_ms)]
