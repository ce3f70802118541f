"""What must survive: the port (contract.py) and the engines behind it.

Belongs here: storing and claiming. Does not: deciding (rules/), doing (bus/), or any name of a function.
"""
