"""What the bus calls its queues in the engine."""

from __future__ import annotations

EVENTS = "fn/"  # fn/<function> or fn/<function>:<qualifier>: asynchronous events
NAMED = "q/"  # q/<name>: the named queues, "queue:<name>"
OUTBOX = "out/"  # out/<destination URI>: records on their way
AWAITED = "awaited/"  # awaited/<outbox queue>/<record id>: a fact, for as long as that record is on its way
