"""Routes with async = true: the event is kept first, and runs later."""

from __future__ import annotations

import logging

from eventfn.errors import EngineError, PayloadTooLarge, Refused, Throttled
from eventfn_http import responses
from eventfn_http.head import Head
from eventfn_http.responses import Response
from eventfn_http.server import Route

_LONGEST_KEY = 255


async def accept(route: Route, head: Head, payload: bytes, request_id: str, log: logging.Logger) -> Response:
    """The answer of an asynchronous route: 202 once the event is on disk."""
    key = head.headers.get("idempotency-key")
    if key is not None and not 0 < len(key) <= _LONGEST_KEY:
        return responses.message(400, f"Idempotency-Key is expected to have 1 to {_LONGEST_KEY} characters")
    # Named after the route: a client's keys never meet those of another route or of another source.
    dedupe_key = None if key is None else f"http:{route.key}:{key}"
    try:
        return responses.accepted(await route.caller.submit(payload, request_id, dedupe_key))
    except Throttled as refused:
        return responses.throttled(refused.retry_after)
    except PayloadTooLarge as refused:
        return responses.message(413, str(refused))
    except (Refused, EngineError):
        return responses.SERVICE_UNAVAILABLE
    except Exception as error:
        log.error("request %s to %s could not be kept", request_id, route.key, exc_info=error)
        return responses.SERVICE_UNAVAILABLE
