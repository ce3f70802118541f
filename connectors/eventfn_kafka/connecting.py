"""From settings to what aiokafka is given to connect with."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

from eventfn.errors import ConnectorError
from eventfn_kafka.settings import Cluster

REQUEST = 15.0  # seconds that brokers have for an answer


async def options(cluster: Cluster, folder: str, client: str, timeout: float = REQUEST) -> dict[str, Any]:
    """Keyword arguments that consumers and producers have in common. Raises ConnectorError: a file cannot be read."""
    found: dict[str, Any] = {
        "bootstrap_servers": list(cluster.bootstrap_servers),
        "client_id": client,
        "request_timeout_ms": round(timeout * 1000),
        "metadata_max_age_ms": 60_000,  # how soon new partitions are noticed, and leaders that nobody spoke of
        "security_protocol": ("SASL_" if cluster.sasl_mechanism else "") + ("SSL" if cluster.tls else "PLAINTEXT"),
    }
    if cluster.tls:
        found["ssl_context"] = await asyncio.to_thread(_tls, cluster, Path(folder))
    if cluster.sasl_mechanism is not None:
        found["sasl_mechanism"] = cluster.sasl_mechanism
        found["sasl_plain_username"] = cluster.username
        found["sasl_plain_password"] = cluster.password
    return found


def _tls(cluster: Cluster, folder: Path) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=cluster.ca_file and str(folder / cluster.ca_file))
        if cluster.certificate_file is not None:
            key = cluster.key_file and str(folder / cluster.key_file)
            # A function, so that OpenSSL does not ask the terminal where a password is missing.
            context.load_cert_chain(folder / cluster.certificate_file, key, lambda: cluster.key_password or "")
    except OSError as error:  # ssl.SSLError is one
        files = ", ".join(filter(None, (cluster.ca_file, cluster.certificate_file, cluster.key_file)))
        raise ConnectorError(f"the certificates of [kafka] ({files}) cannot be used: {error}") from error
    return context
