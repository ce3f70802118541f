"""A connector as anybody can write one: `type = "tail"` follows a log file, `stdout:` prints records.

It imports the public contract of eventfn and nothing else of it.
"""

from eventfn_tail.destination import StdoutDestination
from eventfn_tail.trigger import TailTrigger

__all__ = ["StdoutDestination", "TailTrigger"]
