"""`fn:name`: the record becomes an asynchronous event of another function.

Here: nothing but the destination. Not here: what happens to the event then, which is the host's as for any other.
"""

from eventfn_fn.destination import FunctionDestination

__all__ = ["FunctionDestination"]
