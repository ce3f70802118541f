"""The commands: parse and print, a file per group. Does not belong here: anything a library caller would want."""

from __future__ import annotations


def main() -> None:
    """The console script `eventfn`."""
    from eventfn.cli.commands import eventfn  # here, so that importing a part of the package imports no other

    eventfn()
