"""How much memory the machine has left. Asked whenever an environment is started, and not by the clock: an idle node
starts nothing and needs nothing."""

from __future__ import annotations

import re
from pathlib import Path

SHORT = 0.1  # of the machine's memory: below this idle environments give way
_LINE = re.compile(r"^(MemTotal|MemAvailable): +(\d+) kB$", re.MULTILINE)


def available() -> float:
    """The part of the machine's memory that programs can still have without swapping, 0 to 1."""
    found = dict(_LINE.findall(Path("/proc/meminfo").read_text()))
    return int(found["MemAvailable"]) / int(found["MemTotal"])
