"""TLS with a certificate on both sides, and every way to log in."""

from __future__ import annotations

import base64
import hashlib
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import nkeys  # type: ignore[import-untyped]
import pytest

import eventfn_nats.server
from eventfn.errors import ConnectorError
from eventfn.testing import trigger_context
from eventfn.testing.lint import package_folder
from eventfn.trigger import DONE, Reject, Retry
from eventfn_nats import NatsTrigger
from eventfn_nats.server import Connection
from eventfn_nats.settings import Clusters, Server, Source
from tests.servers import certificate
from tests.servers.nats import NatsServer, missing
from tests.servers.needed import need


@pytest.fixture(autouse=True)
def _installed() -> None:
    need(missing() or certificate.missing())


def key_pair(kind: int) -> Any:
    return nkeys.from_seed(nkeys.encode_seed(secrets.token_bytes(32), kind))


def public(pair: Any) -> str:
    return bytes(pair.public_key).decode()


def jwt(name: str, subject: str, issuer: Any, **claims: Any) -> str:
    """Source: NATS ADR-14."""
    body = {"iat": int(time.time()), "iss": public(issuer), "name": name, "sub": subject}
    body["nats"] = claims | {"version": 2}
    body["jti"] = base64.b32encode(hashlib.sha256(msgspec.json.encode(body)).digest()).decode().rstrip("=")
    signed = b".".join(_base64(part) for part in ({"typ": "JWT", "alg": "ed25519-nkey"}, body))
    return (signed + b"." + _plain_base64(issuer.sign(signed))).decode()


def _base64(value: Any) -> bytes:
    return _plain_base64(msgspec.json.encode(value))


def _plain_base64(value: bytes) -> bytes:
    return base64.urlsafe_b64encode(value).rstrip(b"=")


def ways(folder: Path) -> Iterator[tuple[str, dict[str, str], dict[str, str]]]:
    """(the server's configuration, settings that are let in, settings that are not)."""
    yield "authorization { user: eventfn, password: hunter2 }", {"user": "eventfn", "password": "hunter2"}, {}
    yield "authorization { token: hunter2 }", {"token": "hunter2"}, {"token": "hunter3"}

    user = key_pair(nkeys.PREFIX_BYTE_USER)
    (folder / "user.nk").write_bytes(bytes(user.seed))
    yield f"authorization {{ users = [ {{ nkey: {public(user)} }} ] }}", {"nkey_seed_file": "user.nk"}, {}

    operator, account, system = (
        key_pair(kind) for kind in (nkeys.PREFIX_BYTE_OPERATOR, nkeys.PREFIX_BYTE_ACCOUNT, nkeys.PREFIX_BYTE_ACCOUNT)
    )
    unlimited = {"subs": -1, "data": -1, "payload": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1}
    account_jwt, system_jwt = (
        jwt("account", public(pair), operator, type="account", limits=unlimited) for pair in (account, system)
    )
    user_jwt = jwt("user", public(user), account, type="user", subs=-1, data=-1, payload=-1)
    (folder / "eventfn.creds").write_text(
        f"-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{bytes(user.seed).decode()}\n------END USER NKEY SEED------\n"
    )
    configuration = (
        f"operator: {jwt('operator', public(operator), operator, type='operator')}\nresolver: MEMORY\n"
        f"resolver_preload {{ {public(account)}: {account_jwt}, {public(system)}: {system_jwt} }}\n"
        f"system_account: {public(system)}"
    )
    yield configuration, {"credentials_file": "eventfn.creds"}, {}


async def test_every_way_to_log_in(tmp_path: Path) -> None:
    for number, (configuration, good, bad) in enumerate(ways(tmp_path)):
        folder = tmp_path / str(number)
        folder.mkdir()
        with NatsServer(folder, configuration) as server:
            servers = (f"nats://{server.host}:{server.port}",)
            connection = Connection(Server(servers=servers, **good))
            await connection.open(str(tmp_path))
            await connection.answer(connection.client.flush())
            await connection.close()
            stranger = Connection(Server(servers=servers, **bad))
            with pytest.raises(ConnectorError, match=r"(?i)authorization") as failure:
                await stranger.open(str(tmp_path))
            assert "hunter" not in str(failure.value)


async def test_who_is_no_nats_server_is_told_from_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eventfn_nats.server, "PATIENCE", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connection = Connection(Server(servers=(f"nats://127.0.0.1:{silent.getsockname()[1]}",)))
        with pytest.raises(ConnectorError, match="no NATS server answered within 1 s"):
            await connection.open(str(tmp_path))


async def test_both_sides_show_a_certificate(tmp_path: Path) -> None:
    mine, key = certificate.make(tmp_path)
    configuration = f'tls {{ cert_file: "{mine}", key_file: "{key}", ca_file: "{mine}", verify: true }}'
    with NatsServer(tmp_path, configuration) as server:
        servers = (f"tls://{server.host}:{server.port}",)
        files = {"ca_file": mine.name, "certificate_file": mine.name, "key_file": key.name}
        connection = Connection(Server(servers=servers, **files))
        await connection.open(str(tmp_path))
        await connection.answer(connection.client.flush())
        await connection.close()
        with pytest.raises(ConnectorError, match=r"(?i)certificate"):
            await Connection(Server(servers=servers)).open(str(tmp_path))


async def test_a_user_with_the_rights_in_the_readme_can_do_all(tmp_path: Path) -> None:
    readme = (package_folder(NatsTrigger) / "README.md").read_text()
    permissions = "permissions {" + readme.partition("permissions {")[2].partition("```")[0]
    users = f"{{ user: eventfn, password: secret, {permissions} }}, {{ user: admin, password: secret }}"
    with NatsServer(tmp_path, f"authorization {{ users = [ {users} ] }}") as server:
        servers = (f"nats://{server.host}:{server.port}",)
        admin = Connection(Server(servers=servers, user="admin", password="secret"))
        await admin.open(str(tmp_path))
        jetstream = admin.client.jetstream()
        await jetstream.add_stream(name="ORDERS", subjects=["orders.>"])
        trigger = NatsTrigger(
            Source(
                stream="ORDERS",
                subject="orders.new.>",
                consumer="shop",
                dead_letter_subject="orders.dead",
                max_receive_count=5,
            ),
            Clusters(servers=servers, user="eventfn", password="secret"),
            trigger_context(tmp_path),
        )
        for _ in range(2):  # the consumer is made, and found
            await trigger.connect()
        for number in range(3):
            await jetstream.publish("orders.new.eu", str(number).encode())
        batch = await trigger.read(3)
        await trigger.extend(batch, 10)
        await trigger.settle(batch, [DONE, Reject("never"), Retry(after=3600)])
        assert await trigger.pending() == 1
        assert (await jetstream.get_last_msg("ORDERS", "orders.dead")).data == b"1"
        await trigger.close(1)
        await admin.close()
