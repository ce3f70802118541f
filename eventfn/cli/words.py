"""Numbers, times and problems in words."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import click

from eventfn.cli.safe import safe
from eventfn.errors import Problem


def plural(count: int, noun: str) -> str:
    """3 functions, 1 function, 2 queues."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def age(milliseconds: int | None) -> str:
    """The two largest units: 45s, 3m 20s, 2h 5m, 6d 1h. Nothing for None."""
    if milliseconds is None:
        return ""
    seconds = max(0, milliseconds // 1000)
    parts: list[str] = []
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, length)
        if count or parts:
            parts.append(f"{count}{unit}")
    return " ".join(part for part in parts[:2] if not part.startswith("0")) or "0s"


def local_time(epoch_ms: int) -> str:
    """2026-11-21 14:05:09.123, in the time zone of this machine."""
    moment = datetime.datetime.fromtimestamp(epoch_ms / 1000).astimezone()
    return f"{moment:%Y-%m-%d %H:%M:%S}.{epoch_ms % 1000:03d}"


def print_problems(problems: Sequence[Problem]) -> None:
    """On standard error: "file:line: key: message", the hint below it, the count at the end."""
    for problem in problems:
        place = problem.file if problem.line is None else f"{problem.file}:{problem.line}"
        key = click.style(f" {safe(problem.key)}:", fg="cyan") if problem.key else ""
        click.echo(f"{click.style(safe(place), bold=True)}:{key} {safe(problem.message)}", err=True)
        if problem.hint is not None:
            click.echo(click.style(f"    {safe(problem.hint)}", fg="green"), err=True)
    click.echo(f"error: {plural(len(problems), 'problem')} to mend", err=True)
