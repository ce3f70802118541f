"""`file:path`: records as lines of JSON at the end of a file.

Here: the durable append (`append.py`) and the destination (`destination.py`). Not here: rotation, which is logrotate's;
a file that was moved away is noticed, since every batch opens the path anew.
"""

from eventfn_file.destination import FileDestination

__all__ = ["FileDestination"]
