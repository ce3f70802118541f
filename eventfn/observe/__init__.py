"""What can be seen from outside: function logs, metrics, the facts behind `status`.

Belongs here: recording and reading. Does not: any decision taken because of it.
"""
