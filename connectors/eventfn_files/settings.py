"""The keys of a `type = "files"` trigger in eventfn.toml, and which files they mean.

PURE. A file's name is its path inside the folder, with "/" between the parts, as os.fsdecode gives it.
"""

from __future__ import annotations

import fnmatch
import re

import msgspec

from eventfn.units import Duration

CREATED, REMOVED = "ObjectCreated:Put", "ObjectRemoved:Delete"
_EVENTS = {
    "ObjectCreated:*": CREATED,
    "ObjectCreated:Put": CREATED,
    "ObjectRemoved:*": REMOVED,
    "ObjectRemoved:Delete": REMOVED,
}

# Hidden files, and the names that editors, browsers and copying programs use until a file is complete.
IGNORE = (".*", "*~", "*.tmp", "*.part", "*.partial", "*.crdownload")


class FilesSettings(msgspec.Struct, frozen=True):
    """Times in seconds."""

    path: str
    events: tuple[str, ...] = ("ObjectCreated:*",)
    prefix: str = ""
    suffix: str = ""
    recursive: bool = True
    ignore: tuple[str, ...] = IGNORE  # shell patterns for the name of a file or of a folder on the way to it
    quiet_time: Duration = Duration(0.1)  # how long a complete file must have stayed as it is
    rescan: Duration = Duration(60)  # how often everything is looked at, whatever the kernel has reported

    def __post_init__(self) -> None:
        if not self.path or "\0" in self.path:
            raise ValueError('path: expected a folder, as in "inbox"')
        if not self.events:
            raise ValueError(f"events: expected at least one of {', '.join(_EVENTS)}")
        for event in self.events:
            if event not in _EVENTS:
                raise ValueError(f"events: expected {', '.join(_EVENTS)}, not {event!r}")
        for pattern in self.ignore:
            if not pattern or "/" in pattern:
                raise ValueError(f'ignore: expected patterns for a name without "/", as in "*.tmp", not {pattern!r}')
        if not 1 <= self.rescan <= 86_400:
            raise ValueError('rescan: expected a duration between "1s" and "1d"')
        if self.quiet_time > 3600:
            raise ValueError('quiet_time: expected a duration of at most "1h"')


class Rules:
    """Which names the settings mean."""

    def __init__(self, settings: FilesSettings) -> None:
        self._prefix, self._suffix, self.recursive = settings.prefix, settings.suffix, settings.recursive
        self._announced = {_EVENTS[event] for event in settings.events}
        # Without patterns nothing is ignored: (?!) matches no name.
        self._ignored = re.compile("|".join(map(fnmatch.translate, settings.ignore)) or "(?!)")

    def announces(self, event: str) -> bool:
        return event in self._announced

    def ignores(self, part: str) -> bool:
        """Whether this one part of a name, a file's or a folder's, is ignored."""
        return self._ignored.match(part) is not None

    def mean(self, name: str) -> bool:
        """Whether a file of this name is one to announce."""
        parts = name.split("/")
        return (
            (self.recursive or len(parts) == 1)
            and name.startswith(self._prefix)
            and name.endswith(self._suffix)
            and not any(map(self.ignores, parts))
        )
