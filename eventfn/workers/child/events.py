"""HTTP events put together again from what is the same in many of them and what each has of its own.

A client that keeps its connection repeats its heads, so most events differ in a body, an id and a time only: what is
the same is decoded once, and copied as deep as such an event is.
"""

from __future__ import annotations

from typing import Any

from eventfn.workers.child import results

_MOST = 16  # payloads remembered
_LONGEST = 8192  # bytes: longer ones are decoded each time


class HttpEvents:
    def __init__(self) -> None:
        self._known: dict[bytes, tuple[dict[str, Any], list[str]]] = {}

    def event(self, payload: bytes, body: str, request_id: str, time: str, time_epoch: int) -> dict[str, Any]:
        """A new object every time, which its handler may change. Raises Fault for what is not JSON."""
        model, inner = self._known.get(payload) or self._decoded(payload)
        event = model.copy()
        for name in inner:
            event[name] = model[name].copy()
        context = event["requestContext"]
        context["http"] = context["http"].copy()
        context["requestId"] = request_id
        context["time"] = time
        context["timeEpoch"] = time_epoch
        if body:
            event["body"] = body
        return event

    def _decoded(self, payload: bytes) -> tuple[dict[str, Any], list[str]]:
        model: dict[str, Any] = results.decode(payload)
        decoded = model, [name for name, value in model.items() if isinstance(value, (dict, list))]
        if len(payload) <= _LONGEST:
            if len(self._known) == _MOST:
                self._known.clear()
            self._known[payload] = decoded
        return decoded
