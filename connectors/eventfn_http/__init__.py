"""Functions answer HTTP requests: routes with methods and path parameters, Lambda's function URL events and responses.

What belongs here: HTTP/1.1 on the wire, its strictness and its limits, and the mapping between requests, events,
outcomes and responses. What does not: TLS (a proxy's), who may invoke what beyond a token, and how functions run.
"""

from eventfn_http.trigger import HttpSettings, HttpShared, HttpTrigger

__all__ = ["HttpSettings", "HttpShared", "HttpTrigger"]
