"""Event source mappings: what the API is given for one, what it says of one, and the trigger that one is.

    CreateEventSourceMapping ─▶ EventSourceMapping (kept) ─▶ Wanted: a connector, its settings, an Intake

What belongs here: defaults, what belongs together, Lambda's words; ranges of single values are the service model's.
What runs a mapping: sources.py, as it runs what eventfn.toml declares. Source of all texts: event-sources.

PURE.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from eventfn.functions.model import Intake
from eventfn.functions.refusals import Refusal, conflict, invalid
from eventfn.rules.filters import MAX_PATTERNS, compile_pattern
from eventfn.trigger import Filtering
from eventfn.units import Duration, Instant

NOTHING_YET = "No records processed"  # LastProcessingResult before the first batch
UNRECOGNIZED = "Unrecognized event source."
PREFIX = "mapping/"  # of the source's name: mapping/<UUID>

_FIFO_BATCH_LIMIT = 10
_BATCH_LIMIT_WITHOUT_WINDOW = 10
_WINDOW_OF_BROKERS = 0.5  # seconds: Kafka's and MQ's window when none was asked for
_TOO_YOUNG = 60  # seconds: the least MaximumRecordAge

Kind = Literal["sqs", "kinesis", "dynamodb", "kafka", "msk", "mq"]
Parameters = dict[str, Any]

_ARN = re.compile(r"arn:(?P<partition>[^:]+):(?P<service>[^:]+):(?P<region>[^:]*):(?P<account>[^:]*):(?P<resource>.+)")
_EVERYBODY = ("BatchSize", "FilterCriteria", "KMSKeyArn", "MetricsConfig", "LoggingConfig")
_STREAM = (
    "StartingPosition",
    "StartingPositionTimestamp",
    "MaximumBatchingWindowInSeconds",
    "ParallelizationFactor",
    "DestinationConfig",
    "MaximumRecordAgeInSeconds",
    "BisectBatchOnFunctionError",
    "MaximumRetryAttempts",
    "TumblingWindowInSeconds",
    "FunctionResponseTypes",
)
_KAFKA = (
    "StartingPosition",
    "StartingPositionTimestamp",
    "MaximumBatchingWindowInSeconds",
    "DestinationConfig",
    "MaximumRecordAgeInSeconds",
    "BisectBatchOnFunctionError",
    "MaximumRetryAttempts",
    "FunctionResponseTypes",
    "ProvisionedPollerConfig",
    "Topics",
    "SourceAccessConfigurations",
)
_STREAM_DEFAULTS: Parameters = {
    "BatchSize": 100,
    "MaximumBatchingWindowInSeconds": 0,
    "ParallelizationFactor": 1,
    "DestinationConfig": {"OnFailure": {}},
    "MaximumRecordAgeInSeconds": -1,
    "BisectBatchOnFunctionError": False,
    "MaximumRetryAttempts": -1,
    "TumblingWindowInSeconds": 0,
    "FunctionResponseTypes": [],
}


class _Rules(msgspec.Struct, frozen=True):
    type: str  # the connector's name
    parameters: frozenset[str]
    defaults: Parameters
    reason: str = "User action"  # StateTransitionReason
    starting_positions: tuple[str, ...] = ()
    tells_results: bool = True  # LastProcessingResult


_RULES: dict[Kind, _Rules] = {
    "sqs": _Rules(
        "sqs",
        frozenset(
            {
                *_EVERYBODY,
                "EventSourceArn",
                "MaximumBatchingWindowInSeconds",
                "ScalingConfig",
                "FunctionResponseTypes",
                "ProvisionedPollerConfig",
            }
        ),
        {"BatchSize": 10, "MaximumBatchingWindowInSeconds": 0, "FunctionResponseTypes": []},
        "USER_INITIATED",
        tells_results=False,
    ),
    "kinesis": _Rules(
        "kinesis",
        frozenset({*_EVERYBODY, *_STREAM, "EventSourceArn"}),
        _STREAM_DEFAULTS,
        starting_positions=("TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"),
    ),
    "dynamodb": _Rules(
        "dynamodb",
        frozenset({*_EVERYBODY, *_STREAM, "EventSourceArn"}),
        _STREAM_DEFAULTS,
        starting_positions=("TRIM_HORIZON", "LATEST"),
    ),
    "kafka": _Rules(
        "kafka",
        frozenset({*_EVERYBODY, *_KAFKA, "SelfManagedEventSource", "SelfManagedKafkaEventSourceConfig"}),
        {"BatchSize": 100},
        "USER_INITIATED",
        starting_positions=("TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"),
    ),
    "msk": _Rules(
        "kafka",
        frozenset({*_EVERYBODY, *_KAFKA, "EventSourceArn", "AmazonManagedKafkaEventSourceConfig"}),
        {"BatchSize": 100},
        "USER_INITIATED",
        starting_positions=("TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"),
    ),
    "mq": _Rules(
        "amqp",
        frozenset(
            {
                *_EVERYBODY,
                "EventSourceArn",
                "MaximumBatchingWindowInSeconds",
                "Queues",
                "SourceAccessConfigurations",
            }
        ),
        {"BatchSize": 100},
        "USER_INITIATED",
    ),
}
# Of an ARN, what is behind its account.
_RESOURCES = {
    "sqs": re.compile(r"[A-Za-z0-9_-]{1,80}(\.fifo)?"),
    "kinesis": re.compile(r"stream/[A-Za-z0-9_.-]{1,128}(/consumer/[^/]+)?"),
    "dynamodb": re.compile(r"table/[A-Za-z0-9_.-]{3,255}/stream/[^/]+"),
    "msk": re.compile(r"cluster/[A-Za-z0-9_.-]+/[^/]+"),
    "mq": re.compile(r"broker:[A-Za-z0-9_-]+:[^:]+"),
}
# What is about the mapping itself and not about its source.
_OWN = frozenset({"FunctionName", "Enabled", "Tags", "UUID"})
_BY_SERVICE: dict[str, Kind] = {
    "sqs": "sqs",
    "kinesis": "kinesis",
    "dynamodb": "dynamodb",
    "kafka": "msk",
    "mq": "mq",
}


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """The function that a mapping feeds: its name, and which version or alias of it."""

    name: str
    qualifier: str | None  # None: $LATEST
    arn: str  # qualified exactly as it was given

    @property
    def key(self) -> str:
        return self.name if self.qualifier in (None, "$LATEST") else f"{self.name}:{self.qualifier}"


class EventSourceMapping(msgspec.Struct, frozen=True, kw_only=True):
    """As it is kept. `parameters` are the API's, defaults filled in."""

    uuid: str
    kind: Kind
    function: Target
    parameters: Parameters
    enabled: bool = True
    last_modified_ms: int = 0
    tags: dict[str, str] = {}

    @property
    def arn(self) -> str:
        partition, _, region, account = self.function.arn.split(":")[1:5]
        return f"arn:{partition}:lambda:{region}:{account}:event-source-mapping:{self.uuid}"

    @property
    def source(self) -> str:
        """The name of its trigger. It does not change with the function, so positions are found again."""
        return PREFIX + self.uuid

    @property
    def type(self) -> str:
        """The connector's name."""
        return _RULES[self.kind].type

    @property
    def event_source_arn(self) -> str | None:
        return self.parameters.get("EventSourceArn")


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """The trigger that a mapping is. Which server it reads, beyond its ARN, is for eventfn.toml to say: `brokers`,
    `cluster` and `virtual_host` are what to look for there."""

    type: str
    settings: dict[str, Any]  # as they would stand in the trigger's table
    intake: Intake
    brokers: tuple[str, ...] = ()  # of self-managed Kafka
    authenticates: bool = False  # to them: SourceAccessConfigurations has more than networks
    cluster: str | None = None  # of MSK: the cluster's name
    virtual_host: str | None = None  # of MQ


class FilterSight(msgspec.Struct, frozen=True):
    """What the connector's class says of filters: trigger.Filterable."""

    data_key: str | None = None
    filtering: Filtering | None = None


# --- what the API is given --------------------------------------------------------------------------------------------


def kind_of(asked: Mapping[str, Any]) -> Kind:
    """Raises Refusal when this is no source that there is."""
    if "EventSourceArn" not in asked:
        if asked.get("SelfManagedEventSource", {}).get("Endpoints", {}).get("KAFKA_BOOTSTRAP_SERVERS"):
            return "kafka"
        raise invalid(UNRECOGNIZED)
    found = _ARN.fullmatch(asked["EventSourceArn"])
    kind = _BY_SERVICE.get(found["service"]) if found else None
    if found is None or kind is None or "SelfManagedEventSource" in asked:
        raise invalid(UNRECOGNIZED)
    if not _RESOURCES[kind].fullmatch(found["resource"]):
        raise invalid(UNRECOGNIZED)
    return kind


def connector(kind: Kind) -> str:
    """The connector's name."""
    return _RULES[kind].type


def created(
    asked: Mapping[str, Any], function: Target, uuid: str, sight: FilterSight, now_ms: int
) -> EventSourceMapping:
    """What CreateEventSourceMapping makes. `uuid` is new, and the consumer group of Kafka too if it has none. Raises
    Refusal."""
    kind = kind_of(asked)
    rules = _RULES[kind]
    for name in asked:
        if name not in rules.parameters and name not in _OWN:
            raise _unsupported(name)
    parameters = {**rules.defaults, **{name: asked[name] for name in asked if name in rules.parameters}}
    if kind in ("kafka", "msk"):
        group = "SelfManagedKafkaEventSourceConfig" if kind == "kafka" else "AmazonManagedKafkaEventSourceConfig"
        parameters[group] = {"ConsumerGroupId": uuid} | parameters.get(group, {})
    mapping = EventSourceMapping(
        uuid=uuid,
        kind=kind,
        function=function,
        parameters=_tidied(parameters),
        enabled=asked.get("Enabled", True),
        last_modified_ms=now_ms,
        tags=asked.get("Tags", {}),
    )
    _check_start(mapping)
    _check_source(mapping)
    _check(mapping, sight)
    return mapping


def updated(
    mapping: EventSourceMapping, asked: Mapping[str, Any], function: Target | None, sight: FilterSight, now_ms: int
) -> EventSourceMapping:
    """What UpdateEventSourceMapping makes of it; what is not given stays. Raises Refusal."""
    rules = _RULES[mapping.kind]
    for name in asked:
        if name not in rules.parameters and name not in _OWN:
            raise _unsupported(name)
    given = {name: asked[name] for name in asked if name in rules.parameters}
    for group in ("SelfManagedKafkaEventSourceConfig", "AmazonManagedKafkaEventSourceConfig"):
        if group in given:
            given[group] = mapping.parameters.get(group, {}) | given[group]
    after = msgspec.structs.replace(
        mapping,
        function=function or mapping.function,
        parameters=_tidied({**mapping.parameters, **given}),
        enabled=asked.get("Enabled", mapping.enabled),
        last_modified_ms=now_ms,
    )
    _check(after, sight)
    return after


def refuse_second(mapping: EventSourceMapping, others: Mapping[str, EventSourceMapping]) -> None:
    """Raises Refusal when another one feeds the same function from the same source."""
    for other in others.values():
        if other.uuid == mapping.uuid or other.kind != mapping.kind or other.function.key != mapping.function.key:
            continue
        arn, name = mapping.event_source_arn, mapping.function.name
        rest = f"Please update or delete the existing mapping with UUID {other.uuid}"
        if mapping.kind in ("kafka", "msk"):
            if _subscription(other.parameters) == _subscription(mapping.parameters):
                servers = arn or ",".join(_brokers(mapping.parameters))
                topics = ",".join(mapping.parameters.get("Topics", ()))
                raise conflict(
                    f'An event source mapping with event source ("{servers}"), function ("{mapping.function.arn}"), '
                    f'topics ("{topics}") already exists. {rest}'
                )
        elif other.event_source_arn == arn and other.parameters.get("Queues") == mapping.parameters.get("Queues"):
            if mapping.kind == "sqs":
                raise conflict(
                    f'An event source mapping with SQS arn (" {arn} ") and function (" {name} ") already exists. {rest}'
                )
            raise conflict(
                f'The event source arn (" {arn} ") and function (" {name} ") provided mapping already exists. {rest}'
            )


def refuse_short_visibility(visibility: float, timeout: float) -> None:
    """Seconds, of a queue and of the function that it feeds: a message must not come again while it is handled. Raises
    Refusal."""
    if visibility < timeout:
        raise invalid(
            f"Queue visibility timeout: {visibility:g} seconds is less than Function timeout: {timeout:g} seconds"
        )


def _unsupported(name: str) -> Refusal:
    return invalid(f"Unsupported {name} parameter for given event source mapping type.")


def _tidied(parameters: Parameters) -> Parameters:
    """Without what is given to say that there is none of it."""
    tidied = dict(parameters)
    if not tidied.get("FilterCriteria", {}).get("Filters"):
        tidied.pop("FilterCriteria", None)
    for name in ("ScalingConfig", "ProvisionedPollerConfig", "KMSKeyArn"):
        if not tidied.get(name):
            tidied.pop(name, None)
    if "DestinationConfig" in tidied:
        config: dict[str, Any] = tidied["DestinationConfig"]
        shown: dict[str, Any] = {"OnFailure": _destination(config.get("OnFailure"))}
        if _destination(config.get("OnSuccess")):
            shown["OnSuccess"] = config["OnSuccess"]
        tidied["DestinationConfig"] = shown
    return tidied


def _destination(given: Mapping[str, Any] | None) -> dict[str, Any]:
    return dict(given) if given and given.get("Destination") else {}


def _check_start(mapping: EventSourceMapping) -> None:
    allowed = _RULES[mapping.kind].starting_positions
    position = mapping.parameters.get("StartingPosition")
    timestamp = mapping.parameters.get("StartingPositionTimestamp")
    if not allowed:
        return
    if position is None:
        raise invalid(
            "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: "
            "Member must not be null."
        )
    if position not in allowed:
        raise invalid(f"Unsupported starting position for arn type: {mapping.event_source_arn}")
    if (position == "AT_TIMESTAMP") != (timestamp is not None):
        raise invalid("StartingPositionTimestamp goes together with the starting position AT_TIMESTAMP.")


def _check_source(mapping: EventSourceMapping) -> None:
    parameters = mapping.parameters
    if mapping.kind in ("kafka", "msk") and not parameters.get("Topics"):
        raise invalid("Required 'topics' parameter is missing.")
    if mapping.kind == "mq" and not parameters.get("Queues"):
        raise invalid("Required 'queues' parameter is missing.")
    if mapping.kind in ("kafka", "mq") and not parameters.get("SourceAccessConfigurations"):
        raise invalid("Required 'sourceAccessConfigurations' parameter is missing.")
    for broker in _brokers(parameters):
        if not re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/,\[\]]+):[0-9]{1,5}", broker):
            raise invalid(f"Invalid broker endpoint {broker}: expected host:port.")


def _check(mapping: EventSourceMapping, sight: FilterSight) -> None:
    """What holds after an update too."""
    parameters = mapping.parameters
    size, window = parameters["BatchSize"], parameters.get("MaximumBatchingWindowInSeconds", 0)
    if mapping.kind == "sqs":
        if (mapping.event_source_arn or "").endswith(".fifo"):
            if size > _FIFO_BATCH_LIMIT:
                raise invalid(f"Batch size must be at most {_FIFO_BATCH_LIMIT} for a FIFO queue.")
            if window:
                raise invalid("Batching window is not supported for FIFO queues.")
        elif size > _BATCH_LIMIT_WITHOUT_WINDOW and not window:
            raise invalid(
                "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10"
            )
    age = parameters.get("MaximumRecordAgeInSeconds", -1)
    if age != -1 and age < _TOO_YOUNG:
        raise invalid(f"MaximumRecordAgeInSeconds must be -1, or between {_TOO_YOUNG} and 604800.")
    if parameters.get("TumblingWindowInSeconds") and parameters.get("ParallelizationFactor", 1) > 1:
        raise invalid("A tumbling window needs a ParallelizationFactor of 1: it has one state.")
    config = parameters.get("DestinationConfig", {})
    if "OnSuccess" in config:
        raise _unsupported("DestinationConfig")
    if destination := config.get("OnFailure", {}).get("Destination"):
        _check_destination(mapping, destination)
    _check_filters(parameters.get("FilterCriteria", {}).get("Filters", []), sight)


def _check_destination(mapping: EventSourceMapping, destination: str) -> None:
    if destination.startswith("kafka://"):
        known = mapping.kind in ("kafka", "msk")
    else:
        found = _ARN.fullmatch(destination)
        known = found is not None and found["service"] in ("sqs", "sns", "s3")
    if not known:
        raise invalid(f"The destination ARN {destination} is invalid.")


def _check_filters(filters: list[dict[str, Any]], sight: FilterSight) -> None:
    if len(filters) > MAX_PATTERNS:
        raise invalid(f"A mapping has at most {MAX_PATTERNS} filters.")
    for each in filters:
        try:
            compile_pattern(msgspec.json.decode(each.get("Pattern", "")), sight.data_key, sight.filtering)
        except (ValueError, RecursionError) as error:  # msgspec's DecodeError is a ValueError
            raise invalid("Invalid filter pattern definition.") from error


def _brokers(parameters: Parameters) -> tuple[str, ...]:
    return tuple(parameters.get("SelfManagedEventSource", {}).get("Endpoints", {}).get("KAFKA_BOOTSTRAP_SERVERS", ()))


def _subscription(parameters: Parameters) -> tuple[object, ...]:
    return parameters.get("EventSourceArn"), sorted(_brokers(parameters)), parameters.get("Topics")


# --- what it says -----------------------------------------------------------------------------------------------------


def in_use(doing: str) -> Refusal:
    """It is being changed, and what is asked has to wait. `doing`: "update" or "delete"."""
    return Refusal("ResourceInUseException", f"Cannot {doing} the event source mapping because it is in use.")


def shown(mapping: EventSourceMapping, state: str, last_result: str | None) -> dict[str, Any]:
    """EventSourceMappingConfiguration. `last_result` is the host's; None: it has none yet."""
    rules = _RULES[mapping.kind]
    said: dict[str, Any] = {
        "UUID": mapping.uuid,
        **mapping.parameters,
        "FunctionArn": mapping.function.arn,
        "LastModified": mapping.last_modified_ms / 1000,
        "State": state,
        "StateTransitionReason": rules.reason,
        "EventSourceMappingArn": mapping.arn,
    }
    if rules.tells_results or last_result is not None:
        said["LastProcessingResult"] = last_result or NOTHING_YET
    return said


# --- what it is -------------------------------------------------------------------------------------------------------


def wanted(mapping: EventSourceMapping) -> Wanted:
    """The trigger that eventfn.toml would declare for it."""
    parameters, arn = mapping.parameters, mapping.event_source_arn or ""
    settings: dict[str, Any]
    match mapping.kind:
        case "sqs":
            return Wanted(type="sqs", settings={"queue": arn}, intake=_intake(mapping))
        case "kinesis":
            stream = arn.partition("/consumer/")[0]  # what enhanced fan-out would be faster for is the stream itself
            return Wanted(type="kinesis", settings={"stream": stream}, intake=_intake(mapping))
        case "dynamodb":
            return Wanted(type="dynamodb", settings={"stream": arn}, intake=_intake(mapping))
        case "kafka":
            group = parameters["SelfManagedKafkaEventSourceConfig"]["ConsumerGroupId"]
            return Wanted(
                type="kafka",
                settings={"topics": parameters["Topics"], "group_id": group},
                intake=_intake(mapping),
                brokers=_brokers(parameters),
                authenticates=any(
                    not each.get("Type", "").startswith("VPC_") for each in parameters["SourceAccessConfigurations"]
                ),
            )
        case "msk":
            group = parameters["AmazonManagedKafkaEventSourceConfig"]["ConsumerGroupId"]
            settings = {"topics": parameters["Topics"], "group_id": group, "event_source_arn": arn}
            cluster = arn.split("/")[1]
            return Wanted(type="kafka", settings=settings, intake=_intake(mapping), cluster=cluster)
        case "mq":
            hosts = [
                each["URI"]
                for each in parameters["SourceAccessConfigurations"]
                if each.get("Type") == "VIRTUAL_HOST" and "URI" in each
            ]
            settings = {"queue": parameters["Queues"][0], "event_source_arn": arn}
            host = hosts[0] if hosts else None
            return Wanted(type="amqp", settings=settings, intake=_intake(mapping), virtual_host=host)


def _intake(mapping: EventSourceMapping) -> Intake:
    said = mapping.parameters
    window = said.get("MaximumBatchingWindowInSeconds")
    if window is None:
        window = _WINDOW_OF_BROKERS if mapping.kind in ("kafka", "msk", "mq") else 0
    age, start = said.get("MaximumRecordAgeInSeconds", -1), said.get("StartingPositionTimestamp")
    filters: list[dict[str, str]] = said.get("FilterCriteria", {}).get("Filters", [])
    destination: str | None = said.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination")
    return Intake(
        enabled=mapping.enabled,
        filter_criteria=[msgspec.json.decode(each["Pattern"]) for each in filters],
        batch_size=said["BatchSize"],
        maximum_batching_window=Duration(window),
        maximum_concurrency=said.get("ScalingConfig", {}).get("MaximumConcurrency"),
        report_batch_item_failures="ReportBatchItemFailures" in said.get("FunctionResponseTypes", ()),
        starting_position=said.get("StartingPosition"),
        starting_position_timestamp=None if start is None else Instant(start),
        parallelization_factor=said.get("ParallelizationFactor", 1),
        bisect_batch_on_function_error=said.get("BisectBatchOnFunctionError", False),
        maximum_retry_attempts=said.get("MaximumRetryAttempts", -1),
        maximum_record_age=None if age == -1 else Duration(age),
        tumbling_window=Duration(said.get("TumblingWindowInSeconds", 0)),
        on_failure=None if destination is None else destination.replace("kafka://", "kafka:", 1),
    )
