"""TLS, with a certificate on both sides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eventfn.destination import WRITTEN, OutgoingRecord
from eventfn.errors import ConnectorError
from eventfn.testing import destination_context, trigger_context
from eventfn_redis import RedisDestination, RedisTrigger
from eventfn_redis.settings import Servers, Sinks, Source
from tests.servers import certificate
from tests.servers.needed import need
from tests.servers.redis import RedisServer, missing


async def test_both_sides_show_a_certificate(tmp_path: Path) -> None:
    need(missing() or certificate.missing())
    files: dict[str, Any] = {"ca_file": "certificate.pem", "certificate_file": "certificate.pem", "key_file": "key.pem"}
    with RedisServer(tmp_path, certificate.make(tmp_path)) as server:
        url = f"rediss://{server.host}:{server.port}"
        destination = RedisDestination("orders", Sinks(url=url, **files), destination_context(tmp_path))
        await destination.connect()
        assert await destination.write([OutgoingRecord("1", b"{}")]) == [WRITTEN]
        await destination.close(1)
        trigger = RedisTrigger(Source(stream="orders"), Servers(url=url, **files), trigger_context(tmp_path))
        await trigger.connect()
        assert len((await trigger.read(10)).records) == 1
        await trigger.close(1)
        stranger = RedisTrigger(Source(stream="orders"), Servers(url=url), trigger_context(tmp_path))
        with pytest.raises(ConnectorError, match=r"(?i)certificate"):
            await stranger.connect()
        await stranger.close(1)
