"""What is done with an event: the front door (bus.py), admission, dispatch, intake, destinations, named queues.

Belongs here: doing what rules/ decides, with the engine and the pool. Does not: deciding, sockets, child processes.
"""
