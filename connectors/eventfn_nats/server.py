"""A connection to NATS, and its errors in eventfn's words."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Coroutine, Generator
from pathlib import Path
from typing import Any, TypeVar

from eventfn.errors import ConnectorError
from eventfn_nats.settings import Server

try:
    from nats.aio.client import Client
    from nats.errors import Error as NatsError
    from nats.errors import NoServersError
except ImportError as error:
    raise ImportError("nats-py is missing: pip install 'eventfn[nats]'") from error

T = TypeVar("T")

PATIENCE = 5.0  # seconds that an answer may take
_FAREWELL = 1.0  # ... and closing: after a TLS handshake that failed the library waits for an end that never comes
_PING_EVERY = 20  # seconds: with two unanswered the connection is given up


class _Client(Client):
    async def _close(self, status: int, do_cbs: bool = True) -> None:
        """The library tries to send the rest also when the connection is broken, fails, and stops half way: nobody
        would be told, and its tasks would be left. So there is no rest."""
        if not self.is_connected:
            self._pending = []
            self._pending_data_size = 0
        await super()._close(status, do_cbs)


class Connection:
    """It does not come back by itself once it is `lost`: the host connects again."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.client: Any = _Client()  # the library's types are half known
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.said: Exception | None = None  # what the server or the library last complained of, to nobody in particular

    async def open(self, folder: str) -> None:
        async def note(error: Exception) -> None:
            self.said = error

        async def closed() -> None:
            if not self.lost.done():
                self.lost.set_result(None)

        patience = PATIENCE * len(self.server.servers)
        with outside(self.server):
            try:
                async with asyncio.timeout(patience):
                    await self.client.connect(
                        servers=list(self.server.servers),
                        allow_reconnect=False,
                        connect_timeout=int(PATIENCE),
                        max_reconnect_attempts=1,  # in the library's loop over all servers, which it needs even for one
                        reconnect_time_wait=0,
                        ping_interval=_PING_EVERY,
                        error_cb=note,
                        closed_cb=closed,
                        **_who(self.server, folder),
                    )
            except NoServersError:  # why there are none it has only said
                raise ConnectorError(f"{self.server.name}: {self.said or 'nobody is there'}") from None
            except TimeoutError:
                await self.close()
                raise ConnectorError(f"{self.server.name}: no NATS server answered within {patience:g} s") from None
            except BaseException:
                await self.close()
                raise

    async def answer(self, request: Coroutine[Any, Any, T]) -> T:
        """What the library is told. It would wait until its time is over, also on a connection that is lost."""
        asking = asyncio.ensure_future(request)
        try:
            both: set[asyncio.Future[Any]] = {asking, self.lost}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                raise ConnectorError(f"{self.server.name}: the connection is gone")
            with outside(self.server):
                return asking.result()
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def close(self) -> None:
        with contextlib.suppress(Exception):  # a connection that is broken cannot be closed well
            async with asyncio.timeout(_FAREWELL):
                await self.client.close()


def _who(server: Server, folder: str) -> dict[str, Any]:
    def path(file: str | None) -> str | None:
        return None if file is None else str(Path(folder, file))

    who: dict[str, Any] = {
        "user": server.user,
        "password": server.password,
        "token": server.token,
        "user_credentials": path(server.credentials_file),
        "nkeys_seed": path(server.nkey_seed_file),
    }
    if server.tls:
        context = ssl.create_default_context(cafile=path(server.ca_file))
        if server.certificate_file is not None:
            context.load_cert_chain(str(path(server.certificate_file)), path(server.key_file))
        who["tls"] = context
    return who


@contextlib.contextmanager
def outside(server: Server) -> Generator[None, None, None]:
    """What the library raises is the outside's doing."""
    try:
        yield
    except (NatsError, OSError) as error:  # a TimeoutError is an OSError
        raise ConnectorError(f"{server.name}: {str(error) or type(error).__name__}") from error
    except ImportError as error:
        raise ConnectorError(f"{error}: pip install 'eventfn[nats]'") from error
