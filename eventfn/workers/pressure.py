"""How much is left of what environments take: the machine's memory, and descriptors of this process. Asked whenever an
environment is started, and not by the clock: an idle node starts nothing and needs nothing."""

from __future__ import annotations

import os
import re
import resource
from pathlib import Path

SHORT = 0.1  # below this idle environments give way
_PLENTY = 2560  # descriptors. An environment takes about five, and those that give way take a moment to
_LINE = re.compile(r"^(MemTotal|MemAvailable): +(\d+) kB$", re.MULTILINE)


def available() -> float:
    """The part of the machine's memory that is free, 0 to 1; or that of plenty of descriptors, if that is less."""
    descriptors = _descriptors()
    return min(descriptors, _memory()) if descriptors else 0.0


def _memory() -> float:
    """What programs can still have without swapping."""
    found = dict(_LINE.findall(Path("/proc/meminfo").read_text()))
    return int(found["MemAvailable"]) / int(found["MemTotal"])


def _descriptors() -> float:
    """How much can still be opened, told by the number that is next: it is the lowest that is free."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        return 1.0
    try:
        lowest = os.open("/", os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return 0.0
    os.close(lowest)
    return (most - lowest) / _PLENTY
