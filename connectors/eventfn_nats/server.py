"""A connection to NATS, and its errors in eventfn's words."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from typing import Any

from eventfn.errors import ConnectorError
from eventfn_nats.settings import Server

try:
    from nats.aio.client import Client
    from nats.errors import Error as NatsError
    from nats.errors import NoServersError
except ImportError as error:
    raise ImportError("nats-py is missing: pip install 'eventfn[nats]'") from error

PATIENCE = 5.0  # seconds that an answer may take
_PING_EVERY = 20  # seconds: with two unanswered the connection is given up


async def connected(server: Server, folder: str, closed: Callable[[], Awaitable[None]]) -> Any:
    """`closed` is called when the connection is lost. It does not come back by itself: the host connects again."""

    said: list[Exception] = []

    async def note(error: Exception) -> None:
        """The library raises "no servers" in the end; why there are none it says here."""
        said[:] = [error]

    def path(file: str | None) -> str | None:
        return None if file is None else str(Path(folder, file))

    who: dict[str, Any] = {
        "user": server.user,
        "password": server.password,
        "token": server.token,
        "user_credentials": path(server.credentials_file),
        "nkeys_seed": path(server.nkey_seed_file),
    }
    client = Client()
    with outside(server):
        if server.tls:
            context = ssl.create_default_context(cafile=path(server.ca_file))
            if server.certificate_file is not None:
                context.load_cert_chain(str(path(server.certificate_file)), path(server.key_file))
            who["tls"] = context
        try:
            async with asyncio.timeout(PATIENCE * len(server.servers)):
                await client.connect(
                    servers=list(server.servers),
                    allow_reconnect=False,
                    connect_timeout=int(PATIENCE),
                    max_reconnect_attempts=1,  # in the library's loop over all servers, which it needs even for one
                    reconnect_time_wait=0,
                    ping_interval=_PING_EVERY,
                    error_cb=note,
                    closed_cb=closed,
                    **who,
                )
        except NoServersError:
            raise ConnectorError(f"{server.name}: {said[0] if said else 'nobody is there'}") from None
        except BaseException:
            await client.close()
            raise
    return client


@contextlib.contextmanager
def outside(server: Server) -> Generator[None, None, None]:
    """What the library raises is the outside's doing."""
    try:
        yield
    except (NatsError, OSError) as error:  # a TimeoutError is an OSError
        raise ConnectorError(f"{server.name}: {error or type(error).__name__}") from error
    except ImportError as error:
        raise ConnectorError(f"{error}: pip install 'eventfn[nats]'") from error
