"""All that is served at AWS_LAMBDA_RUNTIME_API: which path is whose. PURE."""

from __future__ import annotations

from collections.abc import Sequence

from eventfn.workers.local_api import answers
from eventfn.workers.local_api.http import Exchange, Handler


class Api:
    """An http.Handler made of others, by the path that each begins with."""

    def __init__(self, parts: Sequence[tuple[str, Handler]]) -> None:
        self._parts = parts

    def begins(self, exchange: Exchange) -> None:
        if (part := self._part(exchange)) is not None:
            part.begins(exchange)

    def arrived(self, exchange: Exchange) -> None:
        part = self._part(exchange)
        if part is not None:
            part.arrived(exchange)
        else:
            exchange.answer(answers.not_found())

    def lost(self, exchange: Exchange) -> None:
        if (part := self._part(exchange)) is not None:
            part.lost(exchange)

    def _part(self, exchange: Exchange) -> Handler | None:
        return next((part for root, part in self._parts if exchange.path.startswith(root)), None)
