"""An EventBridge of one's own: named buses, rules with event patterns, and what targets get of an event.

    "bus:NAME", PutEvents ──▶ queue bus.NAME ──▶ rules ──▶ functions, destinations (queue:, https:, bus: ...)

Here: the shape of an event (`events.py`), what a target gets of it (`inputs.py`), rules (`rules.py`) and the entries of
PutEvents (`entries.py`), all PURE; the settings; the destination that keeps events; the router that takes them from
their queue to all their targets; the events of schedules; PutEvents on the wire. Not here: what a pattern is
(eventfn/patterns.py) and when a schedule is due (eventfn/schedules); retries of functions and destinations (the host).
"""

from eventfn_bus.destination import BusDestination
from eventfn_bus.trigger import BusTrigger

__all__ = ["BusDestination", "BusTrigger"]
