"""How a command fails: on one line that says what to do, with an exit code."""

from __future__ import annotations

import click

from eventfn.cli.safe import safe
from eventfn.errors import EventfnBug, EventfnError


class Failed(Exception):
    """It was tried and failed."""

    exit_code = 1


class CannotRun(Failed):
    """It could not be tried."""

    exit_code = 2


def in_one_line(error: Exception) -> str | None:
    """What the user is told; None for an error that is ours, which keeps its traceback."""
    match error:
        case click.UsageError():
            help_hint = f" (see '{error.ctx.command_path} --help')" if error.ctx is not None else ""
            text = error.format_message() + help_hint
        case click.ClickException():
            text = error.format_message()
        case EventfnBug():
            return None
        case Failed() | EventfnError():
            text = str(error)
        case OSError(filename=str() as name):
            text = f"{name}: {error.strerror}"
        case _:
            return None
    return safe(" ".join(text.splitlines()))
