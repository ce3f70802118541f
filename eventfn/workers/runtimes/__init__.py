"""One file per family of runtimes: how its interpreter is found, and what its environments are told.

Does not belong here: the life of processes, which is the same for all of them.
"""
