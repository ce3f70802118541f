"""What eventfn.toml says: of clusters in [kafka], and of one trigger. PURE."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec

from eventfn.units import Between, Duration, TableName

TOPIC = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,249}")  # Kafka's own rule
EXPECTED_TOPIC = "expected the name of a topic: 1 to 249 letters, digits, '.', '_' and '-'"
_SERVER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/,\[\]]+):(\d{1,5})")


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """How the brokers of one cluster are reached, and as whom. Paths start at the project's folder."""

    bootstrap_servers: tuple[str, ...] = ("localhost:9092",)
    tls: bool = False
    ca_file: str | None = None  # who signs the brokers' certificates; None: the machine's authorities
    certificate_file: str | None = None  # our own, where brokers ask for one
    key_file: str | None = None
    key_password: str | None = None
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    username: str | None = None
    password: str | None = None

    def __post_init__(self) -> None:
        if not self.bootstrap_servers:
            raise ValueError('bootstrap_servers: expected at least one "host:port"')
        for server in self.bootstrap_servers:
            if not _SERVER.fullmatch(server):
                raise ValueError(f'bootstrap_servers: expected "host:port", not {server!r}')
        for key in ("ca_file", "certificate_file", "key_file", "key_password"):
            if getattr(self, key) is not None and not self.tls:
                raise ValueError(f"{key}: means nothing without tls = true")
        if self.key_file is not None and self.certificate_file is None:
            raise ValueError("key_file: expected a certificate_file too")
        if self.key_password is not None and self.certificate_file is None:
            raise ValueError("key_password: expected a certificate_file too")
        for key in ("username", "password"):
            if (getattr(self, key) is None) != (self.sasl_mechanism is None):
                raise ValueError(f"{key}: stands together with sasl_mechanism, or not at all")


class Clusters(Cluster, frozen=True, kw_only=True):
    """[kafka]: the cluster that is meant where none is named, and named ones in [kafka.clusters.NAME]."""

    clusters: dict[TableName, Cluster] = {}

    def named(self, name: str | None) -> Cluster | None:
        """None when there is no cluster of that name."""
        return self if name is None else self.clusters.get(name)


class KafkaSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds."""

    topics: tuple[str, ...]
    cluster: str | None = None  # of [kafka.clusters.NAME]; None: [kafka] itself
    group_id: str | None = None  # None: "eventfn-<function>", which a restart finds again
    event_format: Literal["lambda", "plain"] = "lambda"
    event_source_arn: str | None = None  # of a cluster of Amazon MSK: events are as Lambda's of MSK
    isolation_level: Literal["read_committed", "read_uncommitted"] = "read_committed"
    # How long brokers wait for a sign of life before they give our partitions to somebody else.
    session_timeout: Annotated[Duration, Between(1, 1800)] = Duration(45)
    # How long functions may go on with what they have when partitions move; the whole group waits for them.
    rebalance_timeout: Annotated[Duration, Between(1, 3600)] = Duration(60)

    def __post_init__(self) -> None:
        if not self.topics:
            raise ValueError('topics: expected at least one, as in ["orders"]')
        for topic in self.topics:
            if not TOPIC.fullmatch(topic):
                raise ValueError(f"topics: {EXPECTED_TOPIC}, not {topic!r}")
        if len(set(self.topics)) < len(self.topics):
            raise ValueError("topics: one of them stands there twice")
        if self.group_id is not None and not 1 <= len(self.group_id) <= 255:
            raise ValueError("group_id: expected 1 to 255 characters")


def group_of(settings: Any, function: str) -> str:
    """Of the function alone: it stays the same when another setting changes, and offsets are found again."""
    return settings.group_id or f"eventfn-{function}"
