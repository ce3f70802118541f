"""eventfn: a Lambda that you run yourself."""

from eventfn.app import App, on
from eventfn.errors import ConfigError, ConnectorError, EventfnError, HandlerError, Refused

__all__ = ["App", "ConfigError", "ConnectorError", "EventfnError", "HandlerError", "Refused", "on"]
