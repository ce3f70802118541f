"""What an answer other than "switching protocols" means.

PURE: the time is passed in.
"""

from __future__ import annotations

import email.utils

from eventfn.errors import Backoff, ConnectorError

_LONGEST_PAUSE = 3600.0  # seconds: nobody keeps us away for longer by one header


def refusal(url: str, status: int, retry_after: str | None, now: float) -> ConnectorError:
    """`now` in seconds since the epoch."""
    said = f"{url} answered {status} instead of opening a WebSocket"
    if status in (401, 403):
        return ConnectorError(f"{said}: see to the credentials in [websocket.hosts]")
    pause = None if retry_after is None else _seconds(retry_after.strip(), now)
    return ConnectorError(said) if pause is None else Backoff(pause, f"{said} and asked to come back in {pause:g} s")


def _seconds(text: str, now: float) -> float | None:
    if text.isascii() and text.isdigit():
        return min(float(text), _LONGEST_PAUSE)
    try:
        return min(max(email.utils.parsedate_to_datetime(text).timestamp() - now, 0.0), _LONGEST_PAUSE)
    except (ValueError, OverflowError):
        return None
