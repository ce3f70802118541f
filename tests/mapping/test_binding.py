"""From a mapping to a trigger: which server its ARN or its brokers mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eventfn.functions import mappings
from eventfn.functions.mappings import EventSourceMapping, Target
from eventfn.functions.model import Aws, Project
from eventfn.functions.refusals import Refusal
from eventfn.mapping.binding import bind, sight
from eventfn.plugins import Plugins
from eventfn_amqp.connection import Broker
from eventfn_aws.settings import AwsSettings
from eventfn_kafka.settings import Cluster, Clusters

UUID = "5dbd0f70-4e8b-4d3e-a5a8-0d5cf4f6e1a1"
FUNCTION = Target(name="f", qualifier="live", arn="arn:aws:lambda:us-east-1:000000000000:function:f:live")
SQS = "arn:aws:sqs:us-east-1:000000000000:jobs"
KINESIS = "arn:aws:kinesis:us-east-1:000000000000:stream/orders"
MSK = "arn:aws:kafka:us-east-1:000000000000:cluster/shop/0c1e-5"
MQ = "arn:aws:mq:us-east-1:000000000000:broker:shop:b-1234"
PLUGINS = Plugins.installed()


def project(aws: Aws | None = None, **shared: Any) -> Project:
    return Project(folder="/p", file=None, data="/d", functions={}, aws=aws or Aws(), shared=shared)


def mapping(**asked: Any) -> EventSourceMapping:
    seen = sight(PLUGINS, mappings.connector(mappings.kind_of(asked)))
    return mappings.created(asked, FUNCTION, UUID, seen, 0)


def kafka(*types: str) -> EventSourceMapping:
    return mapping(
        SelfManagedEventSource={"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["a:9092", "b:9092"]}},
        Topics=["orders"],
        StartingPosition="LATEST",
        SourceAccessConfigurations=[{"Type": kind, "URI": "x"} for kind in types],
    )


@pytest.fixture(autouse=True)
def without_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine that has none."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)


def test_an_arn_is_where_aws_says_it_is() -> None:
    aws = Aws(account="123456789012", endpoint="http://127.0.0.1:1", endpoints={"sqs": "http://127.0.0.1:2"})
    binding = bind(mapping(EventSourceArn=SQS), project(aws), PLUGINS)
    assert binding.source == f"mapping/{UUID}"
    assert binding.settings.queue == SQS
    assert binding.shared.endpoint_url == "http://127.0.0.1:2"
    assert binding.shared.access_key_id == "123456789012"
    stream = bind(mapping(EventSourceArn=KINESIS, StartingPosition="LATEST"), project(aws), PLUGINS)
    assert stream.shared.endpoint_url == "http://127.0.0.1:1"


def test_what_the_connectors_table_says_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    aws = Aws(endpoint="http://127.0.0.1:1")
    own = AwsSettings(endpoint_url="http://127.0.0.1:9", profile="p")
    assert bind(mapping(EventSourceArn=SQS), project(aws, sqs=own), PLUGINS).shared == own
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "own")
    assert bind(mapping(EventSourceArn=SQS), project(aws), PLUGINS).shared.access_key_id is None
    assert bind(mapping(EventSourceArn=SQS), project(), PLUGINS).shared == AwsSettings()


def test_brokers_are_looked_up_in_the_clusters_that_are_declared() -> None:
    named = Cluster(bootstrap_servers=("b:9092",), tls=True)
    declared = Clusters(bootstrap_servers=("c:9092",), clusters={"shop": named})
    found = bind(kafka("SASL_SCRAM_512_AUTH"), project(kafka=declared), PLUGINS)
    assert (found.shared, found.settings.cluster, found.settings.group_id) == (declared, "shop", UUID)
    first = Clusters(bootstrap_servers=("a:9092",))
    assert bind(kafka("BASIC_AUTH"), project(kafka=first), PLUGINS).settings.cluster is None
    alone = bind(kafka("VPC_SUBNET", "VPC_SECURITY_GROUP"), project(), PLUGINS)
    assert alone.shared == Clusters(bootstrap_servers=("a:9092", "b:9092"))
    with pytest.raises(Refusal, match=r"add \[kafka\.clusters\.NAME\]"):
        bind(kafka("BASIC_AUTH"), project(), PLUGINS)


def test_a_cluster_of_msk_is_one_that_is_declared() -> None:
    msk = mapping(EventSourceArn=MSK, Topics=["t"], StartingPosition="LATEST")
    declared = Clusters(clusters={"shop": Cluster()})
    found = bind(msk, project(kafka=declared), PLUGINS)
    assert (found.settings.cluster, found.settings.event_source_arn) == ("shop", MSK)
    assert bind(msk, project(kafka=Clusters()), PLUGINS).settings.cluster is None
    with pytest.raises(Refusal, match=r"add \[kafka\.clusters\.shop\] with its bootstrap_servers"):
        bind(msk, project(), PLUGINS)


def test_a_queue_of_mq_is_in_its_virtual_host() -> None:
    given = {"EventSourceArn": MQ, "Queues": ["work"]}
    plain = mapping(**given, SourceAccessConfigurations=[{"Type": "BASIC_AUTH", "URI": "x"}])
    declared = Broker(url="amqp://u:p@h:1/")
    found = bind(plain, project(amqp=declared), PLUGINS)
    assert (found.shared, found.settings.queue, found.settings.event_source_arn) == (declared, "work", MQ)
    hosted = mapping(**given, SourceAccessConfigurations=[{"Type": "VIRTUAL_HOST", "URI": "/a/b"}])
    assert bind(hosted, project(amqp=declared), PLUGINS).shared.url == "amqp://u:p@h:1/a%2Fb"


def test_a_connector_that_is_not_installed_is_named() -> None:
    with pytest.raises(Refusal, match="no trigger is called 'sqs'"):
        bind(mapping(EventSourceArn=SQS), project(), Plugins())
