"""A folder as a bucket: files that arrive or vanish become S3's ObjectCreated and ObjectRemoved events.

Here: what was announced and what is to be (`ledger.py`, PURE), which files are meant (`settings.py`, PURE), S3's event
(`s3.py`, PURE), what is on the disk (`folder.py`), and the trigger that brings them together (`trigger.py`). Not here:
the queue that events wait in and the retries of a function; they are the host's.
"""

from eventfn_files.trigger import FilesTrigger

__all__ = ["FilesTrigger"]
