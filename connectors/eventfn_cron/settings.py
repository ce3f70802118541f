"""The keys of a `type = "cron"` trigger in eventfn.toml, and what is wrong with them."""

from __future__ import annotations

import difflib
import zoneinfo
from typing import Any, Literal

import msgspec

from eventfn.schedules import parse


class CronSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`schedule` is one of rate(...), cron(...), at(...), five crontab fields, @hourly ... @yearly."""

    schedule: str
    timezone: str = "UTC"  # an IANA name; rate() has no use for it
    missed: Literal["skip", "once", "all"] = "once"  # what becomes of ticks that passed while nobody looked
    input: Any = msgspec.UNSET  # the event, instead of EventBridge's "Scheduled Event"

    def __post_init__(self) -> None:
        try:
            parse(self.schedule)
        except ValueError as error:
            raise ValueError(f"schedule: {error}") from None
        try:
            zoneinfo.ZoneInfo(self.timezone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            near = difflib.get_close_matches(self.timezone, zoneinfo.available_timezones(), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f'timezone: expected an IANA name such as "Europe/Berlin", not {self.timezone!r}{hint}'
            ) from None
