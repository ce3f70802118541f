"""What an attack is: a handler that tries to get out or to take too much, and what it must come back with.

The code is the body of a handler, with `machine`, all that an attacker could know of this machine, and the words of
tools.py. What it returns is expected to be `full` or `landlock`, as the tier, while the wall that it runs against
stands, and `open` where eventfn says that it does not: so neither the walls nor what is printed of them can be wrong.
"""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

from eventfn.sandbox.syscall_numbers import numbers

TOOLS = Path(__file__).parent / "tools.py"


class OneOf:
    """Any of these is as good an answer: kernels differ in which of two walls they come to first."""

    def __init__(self, *answers: object) -> None:
        self._answers = answers

    def __eq__(self, other: object) -> bool:
        return other in self._answers

    def __repr__(self) -> str:
        return f"one of {self._answers}"

    __hash__ = None  # type: ignore[assignment]  # equal to several


class Nothing(NamedTuple):
    """No expectation is written down: where it is asked for, the attack is not complete."""


NOTHING = Nothing()


class Attack(NamedTuple):
    name: str
    wall: str  # of eventfn/sandbox/walls.py
    code: str
    full: Any
    landlock: Any = NOTHING  # the same
    open: Any = NOTHING
    settings: dict[str, Any] = {}  # noqa: RUF012 - of the function; nobody writes to it
    patience: float = 30.0  # seconds

    def expected(self, tier: str, walls: dict[str, bool]) -> Any:
        if not walls[self.wall]:
            assert self.open is not NOTHING, f"the wall {self.wall!r} does not stand here; what comes of it?"
            return self.open
        return self.full if tier == "full" or self.landlock is NOTHING else self.landlock


def handler(body: str) -> dict[str, str]:
    """The files of a function with this body of a handler."""
    calls = numbers(os.uname().machine)
    head = "from tools import *\n\ndef handler(event, context):\n    machine = Machine(event)\n"
    return {
        "main.py": head + textwrap.indent(textwrap.dedent(body), "    "),
        "tools.py": TOOLS.read_text() + f"\nNUMBERS = {calls!r}\n",
    }
