"""What an environment may not do: the policy as data, a file per wall, and `contain`, the ordered list of steps.

Belongs here: walls. Does not: the life of processes (workers/). Runs in the child, so standard library only, and it
imports nothing else of eventfn.
"""
