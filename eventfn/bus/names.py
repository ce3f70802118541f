"""What the bus calls its queues in the engine."""

from __future__ import annotations

EVENTS = "fn/"  # fn/<function> or fn/<function>:<qualifier>: asynchronous events
NAMED = "q/"  # q/<name>: the named queues, "queue:<name>"
OUTBOX = "out/"  # out/<destination URI>: records on their way
