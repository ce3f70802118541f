"""A connection to the broker, and its errors in the host's words. Who uses it reconnects by opening another one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Generator
from pathlib import Path
from urllib.parse import urlsplit

import aiormq
import msgspec
from aiormq.abc import AbstractConnection
from aiormq.exceptions import AMQPError
from pamqp.exceptions import PAMQPException
from yarl import URL

from eventfn.errors import ConnectorError
from eventfn.units import TableName

TIMEOUT = 15.0  # seconds that the broker has for an answer
_HEARTBEAT = "15"  # seconds; a peer that is silent for three of them is gone
OUTSIDE = (AMQPError, PAMQPException, OSError, RuntimeError, EOFError)  # RuntimeError: its channel is closed

# aiormq logs each lost connection with a traceback, and raises it too: the host says it in one line.
logging.getLogger("aiormq").setLevel(logging.CRITICAL)


class Broker(msgspec.Struct, frozen=True, kw_only=True):
    """Where a broker is, and who we are."""

    url: str = "amqp://guest:guest@127.0.0.1:5672/"  # amqps:// with TLS; the path is the virtual host
    ca_file: str | None = None  # PEM; without it the machine's authorities
    cert_file: str | None = None  # PEM: our certificate, for brokers that ask for one
    key_file: str | None = None

    def __post_init__(self) -> None:
        # The URL has a password in it: no message repeats it.
        try:
            parts = urlsplit(self.url)
            good = parts.scheme in ("amqp", "amqps") and parts.hostname and (parts.port is None or parts.port > 0)
        except ValueError:
            good = False
        if not good:
            raise ValueError("url: expected amqp://USER:PASSWORD@HOST:PORT/VHOST, or amqps://")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file: cert_file and key_file go together")

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def virtual_host(self) -> str:
        return URL(self.url).path.removeprefix("/") or "/"

    async def connect(self, folder: str) -> AbstractConnection:
        """Raises ConnectorError. Files are relative to the project's `folder`."""
        url = URL(self.url)
        if "heartbeat" not in url.query:
            url = url.update_query(heartbeat=_HEARTBEAT)
        address = urlsplit(self.url).netloc.rpartition("@")[2]  # who we are is nobody else's business
        with telling(f"cannot connect to RabbitMQ at {address}"):
            context = self._tls(Path(folder)) if url.scheme == "amqps" else None
            connection = aiormq.Connection(url, context=context)
            try:
                async with asyncio.timeout(TIMEOUT):
                    await connection.connect()  # pyright: ignore[reportUnknownMemberType]
            except BaseException:
                await connection.close()
                raise
            return connection

    def _tls(self, folder: Path) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=None if self.ca_file is None else folder / self.ca_file)
        if self.cert_file is not None and self.key_file is not None:
            context.load_cert_chain(folder / self.cert_file, folder / self.key_file)
        return context


class Brokers(Broker, frozen=True, kw_only=True):
    """[amqp] for triggers, [destinations.amqp] for destinations: the broker that is meant where none is named, and
    named ones in [amqp.brokers.NAME]."""

    brokers: dict[TableName, Broker] = {}

    def named(self, name: str | None) -> Broker | None:
        """None when there is no broker of that name."""
        return self if name is None else self.brokers.get(name)


@contextlib.contextmanager
def telling(what: str) -> Generator[None]:
    """The library's errors as ConnectorError, beginning with `what`."""
    try:
        yield
    except OUTSIDE as error:
        raise ConnectorError(f"{what}: {reason_of(error)}") from error
    except asyncio.CancelledError as error:
        # The library cancels those who wait for a channel that was closed: nobody has cancelled us.
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise ConnectorError(f"{what}: the connection was lost") from error


def reason_of(error: BaseException) -> str:
    """What the broker or the network said."""
    return " ".join(str(part) for part in error.args) or type(error).__name__
