"""From a mapping to the trigger that it is: its connector's settings, and the server that its ARN or its brokers mean.

An ARN names a resource of AWS. Which server has it stands in eventfn.toml: `[aws]` for SQS, Kinesis and DynamoDB,
`[kafka]` and `[kafka.clusters.NAME]` for Kafka and MSK, `[amqp]` for Amazon MQ. The keys of those tables are those of
eventfn's own connectors.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from eventfn.aws.placing import placed
from eventfn.declaring.settings import SettingsReader
from eventfn.functions import mappings
from eventfn.functions.mappings import EventSourceMapping, FilterSight, Wanted
from eventfn.functions.model import Project, TriggerBinding, Where
from eventfn.functions.refusals import invalid
from eventfn.plugins import Plugins, PluginUnusable

# Connector -> what boto3 calls the services it talks to; the first that [aws] has an endpoint for is meant.
_SERVICES = {"sqs": ("sqs",), "kinesis": ("kinesis",), "dynamodb": ("dynamodbstreams", "dynamodb")}
_MADE = Where("API")


def sight(plugins: Plugins, connector: str) -> FilterSight:
    """What its filters see of a record. Raises Refusal when it is not installed."""
    plugin = _plugin(plugins, connector)
    return FilterSight(data_key=getattr(plugin, "data_key", None), filtering=getattr(plugin, "filtering", None))


def bind(mapping: EventSourceMapping, project: Project, plugins: Plugins) -> TriggerBinding:
    """Raises Refusal with what is missing in eventfn.toml, or is not installed."""
    wanted = mappings.wanted(mapping)
    plugin = _plugin(plugins, wanted.type)
    shared, settings = _server(wanted, project, plugin)
    return TriggerBinding(
        type=wanted.type,
        source=mapping.source,
        settings=_read(plugin.Settings, settings),
        shared=shared,
        intake=wanted.intake,
        where=_MADE,
    )


def _plugin(plugins: Plugins, connector: str) -> Any:
    try:
        return plugins.trigger(connector)
    except PluginUnusable as unusable:
        raise invalid(f"{unusable.message}{f' ({unusable.hint})' if unusable.hint else ''}") from unusable


def _read(kind: type[msgspec.Struct], table: dict[str, Any]) -> Any:
    reader = SettingsReader({})
    settings = reader.struct(kind, table, ())
    if reader.findings:
        first = reader.findings[0]
        raise invalid(f"{'.'.join(map(str, first.path))}: {first.message}")
    return settings


def _server(wanted: Wanted, project: Project, plugin: Any) -> tuple[Any, dict[str, Any]]:
    """The settings of the server, and those of the trigger with what says which one it is."""
    declared: Any = project.shared.get(wanted.type)
    if wanted.type == "kafka":
        return _cluster(wanted, declared, plugin)
    shared: Any = declared if declared is not None else plugin.Shared()
    if wanted.type == "amqp" and wanted.virtual_host is not None:
        url = urlsplit(str(shared.url))._replace(path=f"/{quote(wanted.virtual_host.removeprefix('/'), safe='')}")
        shared = msgspec.structs.replace(shared, url=url.geturl())
    if wanted.type in _SERVICES:
        shared = placed(shared, project.aws, *_SERVICES[wanted.type])
    return shared, wanted.settings


def _cluster(wanted: Wanted, declared: Any, plugin: Any) -> tuple[Any, dict[str, Any]]:
    named: dict[str, Any] = {} if declared is None else declared.clusters
    if wanted.cluster is not None:  # MSK
        if wanted.cluster in named:
            return declared, {**wanted.settings, "cluster": wanted.cluster}
        if declared is None:
            raise invalid(
                f"eventfn.toml does not say where the brokers of the cluster {wanted.cluster} are: "
                f"add [kafka.clusters.{wanted.cluster}] with its bootstrap_servers."
            )
        return declared, wanted.settings
    servers = set(wanted.brokers)
    if declared is not None and servers & set(declared.bootstrap_servers):
        return declared, wanted.settings
    for name, cluster in named.items():
        if servers & set(cluster.bootstrap_servers):
            return declared, {**wanted.settings, "cluster": name}
    if wanted.authenticates:
        raise invalid(
            "eventfn.toml does not say with which credentials these brokers are reached: "
            "add [kafka.clusters.NAME] with these bootstrap_servers, and tls or sasl_mechanism."
        )
    return plugin.Shared(bootstrap_servers=wanted.brokers), wanted.settings
