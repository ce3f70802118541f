"""What eventfn.toml says of a broker, and of what is subscribed to."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

import msgspec

from eventfn.units import Between, Duration, TableName
from eventfn_mqtt.topics import filter_problem

_PORTS = {"mqtt": 1883, "mqtts": 8883}


class Broker(msgspec.Struct, frozen=True, kw_only=True):
    """Where a broker is, and who we are."""

    url: str = "mqtt://127.0.0.1:1883"  # mqtts:// with TLS; mqtt://USER:PASSWORD@HOST:PORT
    protocol: Literal["5", "3.1.1"] = "5"
    ca_file: str | None = None  # PEM; without it the machine's authorities
    cert_file: str | None = None  # PEM: our certificate, for brokers that ask for one
    key_file: str | None = None

    def __post_init__(self) -> None:
        # The URL may have a password in it: no message repeats it.
        try:
            parts = urlsplit(self.url)
            good = parts.scheme in _PORTS and parts.hostname and parts.port != 0 and parts.path in ("", "/")
        except ValueError:
            good = False
        if not good:
            raise ValueError("url: expected mqtt://USER:PASSWORD@HOST:PORT, or mqtts://")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file: cert_file and key_file go together")

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        parts = urlsplit(self.url)
        return parts.port or _PORTS[parts.scheme]

    @property
    def encrypted(self) -> bool:
        return urlsplit(self.url).scheme == "mqtts"

    @property
    def credentials(self) -> tuple[str | None, str | None]:
        parts = urlsplit(self.url)
        return (
            None if parts.username is None else unquote(parts.username),
            None if parts.password is None else unquote(parts.password),
        )


class Brokers(Broker, frozen=True, kw_only=True):
    """[mqtt] for triggers, [destinations.mqtt] for destinations: the broker that is meant where none is named, and
    named ones in [mqtt.brokers.NAME]."""

    brokers: dict[TableName, Broker] = {}

    def named(self, name: str | None) -> Broker | None:
        """None when there is no broker of that name."""
        return self if name is None else self.brokers.get(name)


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    client_id: Annotated[str, msgspec.Meta(min_length=1, max_length=65_535)]  # the session's name at the broker
    broker: str | None = None  # of [mqtt.brokers.NAME]; None: [mqtt] itself
    topics: Annotated[list[str], msgspec.Meta(min_length=1)]  # filters: "plant/+/temperature", "$share/GROUP/alarms/#"
    qos: Annotated[int, Between(1, 2)] = 1
    session_expiry: Annotated[Duration, Between(60, 4_294_967_294)] = Duration(7 * 86_400)
    receive_maximum: Annotated[int, Between(1, 65_535)] = 250  # messages that the broker sends and are not acknowledged
    max_receive_count: Annotated[int, Between(1, 1000)] = 3  # failures of the function after which it is a dead letter
    retry_delay: Annotated[Duration, Between(0, 600)] = Duration(1)  # before a failed message is handed out again

    def __post_init__(self) -> None:
        for topic in self.topics:
            if problem := filter_problem(topic):
                raise ValueError(f"topics: {topic!r}: {problem}")
        if len(set(self.topics)) < len(self.topics):
            raise ValueError("topics: a filter stands there twice")
