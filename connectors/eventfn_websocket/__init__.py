"""A client of somebody's WebSocket as a source: `type = "websocket"`. Each message becomes one durable event.

Here: the connection and the few messages that are held between it and the host (`connection.py`), the event
(`shape.py`, PURE), the contract (`trigger.py`). Not here: a WebSocket server, and sending to one from a function.
"""

from eventfn_websocket.trigger import WebsocketTrigger

__all__ = ["WebsocketTrigger"]
