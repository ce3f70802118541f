"""What the answer of a webhook's receiver means for the record.

PURE: the time is passed in.
"""

from __future__ import annotations

import email.utils
import math

from eventfn.destination import WRITTEN, Delivery, Rejected, RetryAfter
from eventfn.units import without_secrets

_LONGEST_PAUSE = 3600.0  # seconds: a receiver may not hold a record for longer by one Retry-After


def delivery(status: int, location: str | None, retry_after: str | None, body: bytes, now: float) -> Delivery:
    """`body` is the start of the answer's body, `now` seconds since the epoch."""
    said = f"answered {status}{_shown(body)}"
    if 200 <= status < 300:
        return WRITTEN
    if 300 <= status < 400:
        # Followed, a redirect could carry a record to any address inside the operator's network.
        where = without_secrets(location) if location else "nowhere"
        return Rejected(f"answered {status} to {where}: redirects are not followed, write that URL")
    if status in (408, 425, 429) or status >= 500:
        return RetryAfter(said, after=pause(retry_after, now))
    return Rejected(said)


def pause(retry_after: str | None, now: float) -> float | None:
    """Seconds that a Retry-After header asks for: a number, or an HTTP date. None: nothing that can be read."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        # A number of 400 digits is infinity as a float, and is cut as any long pause is.
        seconds = float(text)
    else:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return math.ceil(min(max(seconds, 0.0), _LONGEST_PAUSE))


def _shown(body: bytes) -> str:
    text = " ".join(body.decode(errors="replace").split())
    return f": {text}" if text else ""
