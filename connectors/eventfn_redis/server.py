"""A client of one Redis, and its errors in eventfn's words."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

from eventfn.errors import ConnectorError
from eventfn_redis.settings import Server

try:
    import redis.asyncio
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import InvalidResponse, RedisError, ResponseError
except ImportError as error:
    raise ImportError("redis-py is missing: pip install 'eventfn[redis]'") from error

__all__ = ["LONG_POLL", "ResponseError", "close_client", "open_client", "outside"]

LONG_POLL = 5.0  # seconds that a read waits on the server: as long is a dead connection not noticed, plus ...
_PATIENCE = 5.0  # ... so many seconds that an answer may take


def open_client(server: Server, folder: str) -> Any:
    """Connects when it is first used, and again after a failure. It retries nothing by itself: the host does."""
    files: dict[str, Any] = {}
    if server.tls:
        named = {
            "ssl_ca_certs": server.ca_file,
            "ssl_certfile": server.certificate_file,
            "ssl_keyfile": server.key_file,
        }
        files = {name: str(Path(folder, path)) for name, path in named.items() if path is not None}
    client: Any = redis.asyncio.Redis(
        host=server.host,
        port=server.port,
        db=server.database,
        username=server.username,
        password=server.password,
        ssl=server.tls,
        socket_connect_timeout=_PATIENCE,
        socket_timeout=LONG_POLL + _PATIENCE,
        retry=Retry(NoBackoff(), 0),
        protocol=2,  # answers are the same lists in all versions of the library
        **files,
    )
    for command in ("XREADGROUP", "XRANGE"):
        client.set_response_callback(command, _as_it_is)  # a dict would lose fields with one name, and their order
    return client


async def close_client(client: Any) -> None:
    """Of an `open_client`, or None."""
    if client is not None:
        with contextlib.suppress(Exception):  # a connection that is broken cannot be closed well
            await client.aclose()


def _as_it_is(answer: Any, **_: Any) -> Any:
    return answer


@contextlib.contextmanager
def outside(server: Server) -> Generator[None, None, None]:
    """What the library raises is the outside's doing."""
    try:
        yield
    except InvalidResponse:  # it says all that came
        raise ConnectorError(f"redis at {server.host}:{server.port}: what answers there is no Redis") from None
    except (RedisError, OSError) as error:
        raise ConnectorError(f"redis at {server.host}:{server.port}: {str(error) or type(error).__name__}") from error
    except AttributeError as error:
        if error.name != "_add_writer":
            raise
        # What Python before 3.12.8 and 3.13.1 makes of a write to a connection that is gone.
        raise ConnectorError(f"redis at {server.host}:{server.port}: the connection is gone") from error
