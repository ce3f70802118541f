"""`https://host/path`: records as signed webhooks (Standard Webhooks). `http://` too, on this machine only.

Here: the signature (`signature.py`) and what an answer means (`answers.py`), both PURE; the destination
(`destination.py`) and its POST (`posting.py`). Not here: retries and back-off, which are the host's.
"""

from eventfn_webhook.destination import LoopbackWebhookDestination, WebhookDestination

__all__ = ["LoopbackWebhookDestination", "WebhookDestination"]
