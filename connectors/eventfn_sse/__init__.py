"""A client of server-sent events as a source (`type = "sse"`): a stream of one shard, its position the last event ID.

Here: the parser of the event stream (`parser.py`, PURE), what an answer means (`answers.py`, PURE), a connection that
is read (`reader.py`), the contract (`trigger.py`). Not here: serving events, and any other format over HTTP.
"""

from eventfn_sse.trigger import SseTrigger

__all__ = ["SseTrigger"]
