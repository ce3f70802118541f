"""How a function runs: zygotes, environments, the warm pool, the frames between supervisor and environment.

Belongs here: the life of processes. Does not: why a function is invoked or what its outcome leads to (bus/, rules/).
`child/` is what runs on the other side of the channel: standard library only, it imports nothing else of eventfn.
"""
