"""Durable executions of a running node: functions that are invoked again until they say that they are done.

Belongs here: who is invoked when, and that it goes on after a restart. Does not: what a checkpoint is
(functions/durable.py), how it is asked for (api/durable.py).
"""
