"""What the answer to a request for an event stream means. Source: WHATWG HTML, "Server-sent events", 9.2.3.

PURE: the time is passed in.
"""

from __future__ import annotations

import email.utils

from eventfn.errors import Backoff, ConnectorError

# Seconds until a server that has said "no more" is asked again: somebody may have changed his mind, or the URL.
NO_MORE = 3600.0
_LONGEST_PAUSE = 3600.0  # nobody keeps us away for longer by one header


def problem(url: str, status: int, headers: dict[str, str], now: float) -> ConnectorError | None:
    """None: an event stream follows. `headers` by lower-case name, `now` in seconds since the epoch."""
    if status == 200:
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == "text/event-stream":
            return None
        return ConnectorError(f"{url} answered with {kind or 'no content type'}, which is no text/event-stream")
    if status == 204:
        return Backoff(NO_MORE, f"{url} answered 204: nothing more will come. Disable the trigger if that is right")
    if 300 <= status < 400:
        # Followed, it would carry headers with credentials to another host.
        where = headers.get("location", "nowhere")
        return ConnectorError(f"{url} answered {status} to {where}: redirects are not followed, write that URL")
    said = f"{url} answered {status}"
    if status in (401, 403):
        return ConnectorError(f"{said}: see to the credentials in [sse.hosts]")
    pause = _seconds(headers.get("retry-after", "").strip(), now)
    return ConnectorError(said) if pause is None else Backoff(pause, f"{said} and asked to come back in {pause:g} s")


def _seconds(text: str, now: float) -> float | None:
    if text.isascii() and text.isdigit():
        return min(float(text), _LONGEST_PAUSE)
    try:
        return min(max(email.utils.parsedate_to_datetime(text).timestamp() - now, 0.0), _LONGEST_PAUSE)
    except (ValueError, OverflowError):
        return None
