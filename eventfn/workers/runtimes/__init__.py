"""One file per family of runtimes: how it is found on the machine. And what its environments are told (telling.py).

Does not belong here: the life of processes, which is the same for all of them.
"""

from __future__ import annotations

import re
from typing import Literal

Family = Literal["python", "nodejs", "provided", "bootstrap"]

_FAMILIES: tuple[tuple[re.Pattern[str], Family], ...] = (
    (re.compile(r"python3\.\d{1,2}"), "python"),
    (re.compile(r"nodejs\d\d\.x"), "nodejs"),
    (re.compile(r"provided(\.al2(023)?)?"), "provided"),
    # AWS has runtimes of these; here they are what their `bootstrap` makes of them.
    (re.compile(r"java\d{1,2}(\.al2)?|ruby\d\.\d|dotnet\d{1,2}"), "bootstrap"),
)


def family(runtime: str | None) -> Family | None:
    """None: there is no such runtime. Without one it is Python."""
    if runtime is None:
        return "python"
    return next((name for pattern, name in _FAMILIES if pattern.fullmatch(runtime)), None)
