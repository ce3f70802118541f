"""How a node fits among other AWS-compatible servers: which services there are and where, what functions are told of
them, and the credentials that functions and the node itself have.

Belongs here: what `[aws]` of eventfn.toml means. Does not: Lambda's own API (api/), sources and destinations
(connectors/eventfn_aws).
"""
