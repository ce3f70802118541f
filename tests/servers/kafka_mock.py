"""librdkafka's mock cluster: a broker within this process, without Java, up in milliseconds.

with mock_kafka() as bootstrap:          # ["127.0.0.1:40855"]
    client.connect(bootstrap)

For tests to which Apache's broker would add nothing but its start. What the connector promises is asked of Apache's.
The mock is not fit for that, tried with aiokafka 0.14 and librdkafka 2.16:

- A fetch that finds nothing is answered when its time is over, and not when something comes: with fetch_max_wait_ms of
  500, 1000 and 3000 a record reached a reader that waited 0.2, 0.7 and 2.7 s after it was put.
- It has no controller: aiokafka's admin client makes no topic there ("'NoneType' object has no attribute 'nodeId'"). A
  topic is made by whoever asks for it, and always of four partitions: nothing can be said of a topic's order.
- It names its own address to clients, so that no proxy can stand in front of it, and nothing outlives it: there are no
  outages. It knows no TLS and no SASL.

Nor does it make what is left quicker: the lesson of examples/06_clicks took 8.1 s with it, and 6.6 s with a broker of
Apache's that it starts for itself; the tests of the connector share one.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any


def missing() -> str | None:
    """What to install, or None."""
    return None if find_spec("confluent_kafka") else "pip install confluent-kafka"


@contextlib.contextmanager
def mock_kafka() -> Iterator[list[str]]:
    library: Any = importlib.import_module("confluent_kafka")
    # It lives as long as this client, which says where it listens and does nothing else.
    owner = library.Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1, "log_level": 0})
    yield [f"{broker.host}:{broker.port}" for broker in owner.list_topics(timeout=10).brokers.values()]
    del owner


async def ask_for_topic(server: str, topic: str) -> None:
    """Makes it, if it is not there."""
    admin: Any = importlib.import_module("aiokafka.admin")
    client = admin.AIOKafkaAdminClient(bootstrap_servers=server)
    await client.start()
    try:
        await client.describe_topics([topic])
    finally:
        await client.close()
