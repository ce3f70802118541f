"""Event source mappings: what is asked for, what is said of it, and the trigger that it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfn.functions import mappings
from eventfn.functions.mappings import EventSourceMapping, FilterSight, Target
from eventfn.functions.refusals import Refusal
from eventfn.trigger import Filtering
from eventfn.units import Duration

UUID = "5dbd0f70-4e8b-4d3e-a5a8-0d5cf4f6e1a1"
FUNCTION = Target(name="f", qualifier=None, arn="arn:aws:lambda:us-east-1:000000000000:function:f")
SQS = "arn:aws:sqs:us-east-1:000000000000:jobs"
KINESIS = "arn:aws:kinesis:us-east-1:000000000000:stream/orders"
DYNAMODB = "arn:aws:dynamodb:us-east-1:000000000000:table/orders/stream/2026-01-01T00:00:00.000"
MSK = "arn:aws:kafka:us-east-1:000000000000:cluster/shop/0c1e-5"
MQ = "arn:aws:mq:us-east-1:000000000000:broker:shop:b-1234"
SIGHT = FilterSight(data_key="body")
KAFKA: dict[str, Any] = {
    "SelfManagedEventSource": {"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": ["a:9092", "b:9092"]}},
    "Topics": ["orders"],
    "StartingPosition": "LATEST",
    "SourceAccessConfigurations": [{"Type": "VPC_SUBNET", "URI": "subnet:subnet-1"}],
}
QUEUE: dict[str, Any] = {
    "EventSourceArn": MQ,
    "Queues": ["work"],
    "SourceAccessConfigurations": [{"Type": "BASIC_AUTH", "URI": "arn:x"}, {"Type": "VIRTUAL_HOST", "URI": "/shop"}],
}


def create(**asked: Any) -> EventSourceMapping:
    return mappings.created({"FunctionName": "f", **asked}, FUNCTION, UUID, SIGHT, 1_700_000_000_123)


def refused(**asked: Any) -> str:
    with pytest.raises(Refusal) as told:
        create(**asked)
    assert told.value.code == "InvalidParameterValueException"
    return str(told.value)


def test_a_queue_is_shown_with_its_defaults() -> None:
    assert mappings.shown(create(EventSourceArn=SQS), "Creating", None) == {
        "UUID": UUID,
        "BatchSize": 10,
        "MaximumBatchingWindowInSeconds": 0,
        "FunctionResponseTypes": [],
        "EventSourceArn": SQS,
        "FunctionArn": FUNCTION.arn,
        "LastModified": 1_700_000_000.123,
        "State": "Creating",
        "StateTransitionReason": "USER_INITIATED",
        "EventSourceMappingArn": f"arn:aws:lambda:us-east-1:000000000000:event-source-mapping:{UUID}",
    }


@pytest.mark.parametrize("arn", [KINESIS, DYNAMODB])
def test_a_stream_is_shown_with_its_defaults(arn: str) -> None:
    assert mappings.shown(create(EventSourceArn=arn, StartingPosition="LATEST"), "Enabled", "OK") == {
        "UUID": UUID,
        "StartingPosition": "LATEST",
        "BatchSize": 100,
        "MaximumBatchingWindowInSeconds": 0,
        "ParallelizationFactor": 1,
        "EventSourceArn": arn,
        "FunctionArn": FUNCTION.arn,
        "LastModified": 1_700_000_000.123,
        "LastProcessingResult": "OK",
        "State": "Enabled",
        "StateTransitionReason": "User action",
        "DestinationConfig": {"OnFailure": {}},
        "MaximumRecordAgeInSeconds": -1,
        "BisectBatchOnFunctionError": False,
        "MaximumRetryAttempts": -1,
        "TumblingWindowInSeconds": 0,
        "FunctionResponseTypes": [],
        "EventSourceMappingArn": f"arn:aws:lambda:us-east-1:000000000000:event-source-mapping:{UUID}",
    }


def test_kafka_has_no_window_to_show_and_a_group_of_its_own() -> None:
    said = mappings.shown(create(**KAFKA), "Enabled", None)
    assert said["SelfManagedKafkaEventSourceConfig"] == {"ConsumerGroupId": UUID}
    assert said["LastProcessingResult"] == "No records processed"
    assert "MaximumBatchingWindowInSeconds" not in said
    msk = create(
        EventSourceArn=MSK,
        Topics=["t"],
        StartingPosition="LATEST",
        AmazonManagedKafkaEventSourceConfig={"ConsumerGroupId": "g"},
    )
    assert mappings.wanted(msk).settings == {"topics": ["t"], "group_id": "g", "event_source_arn": MSK}
    assert mappings.wanted(msk).cluster == "shop"


@pytest.mark.parametrize(
    ("asked", "kind", "settings"),
    [
        ({"EventSourceArn": SQS}, "sqs", {"queue": SQS}),
        ({"EventSourceArn": KINESIS, "StartingPosition": "LATEST"}, "kinesis", {"stream": KINESIS}),
        ({"EventSourceArn": f"{KINESIS}/consumer/c:1", "StartingPosition": "LATEST"}, "kinesis", {"stream": KINESIS}),
        ({"EventSourceArn": DYNAMODB, "StartingPosition": "LATEST"}, "dynamodb", {"stream": DYNAMODB}),
        (KAFKA, "kafka", {"topics": ["orders"], "group_id": UUID}),
        (QUEUE, "amqp", {"queue": "work", "event_source_arn": MQ}),
    ],
)
def test_each_source_is_a_trigger(asked: dict[str, Any], kind: str, settings: dict[str, Any]) -> None:
    wanted = mappings.wanted(create(**asked))
    assert (wanted.type, wanted.settings) == (kind, settings)


def test_brokers_and_virtual_host_are_looked_for() -> None:
    assert mappings.wanted(create(**KAFKA)).brokers == ("a:9092", "b:9092")
    assert mappings.wanted(create(**KAFKA)).intake.maximum_batching_window == 0.5
    assert mappings.wanted(create(**QUEUE)).virtual_host == "/shop"


def test_all_that_is_asked_of_a_stream_reaches_its_intake() -> None:
    mapping = mappings.created(
        {
            "EventSourceArn": KINESIS,
            "Enabled": False,
            "BatchSize": 7,
            "MaximumBatchingWindowInSeconds": 3,
            "StartingPosition": "AT_TIMESTAMP",
            "StartingPositionTimestamp": 1_700_000_000.5,
            "ParallelizationFactor": 4,
            "BisectBatchOnFunctionError": True,
            "MaximumRetryAttempts": 5,
            "MaximumRecordAgeInSeconds": 60,
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
            "DestinationConfig": {"OnFailure": {"Destination": SQS}},
            "FilterCriteria": {"Filters": [{"Pattern": '{"data": {"kind": ["order"]}}'}]},
        },
        FUNCTION,
        UUID,
        FilterSight(data_key="data", filtering=Filtering(root="kinesis", base64_keys=("data",))),
        0,
    )
    intake = mappings.wanted(mapping).intake
    assert intake == type(intake)(
        enabled=False,
        filter_criteria=[{"data": {"kind": ["order"]}}],
        batch_size=7,
        maximum_batching_window=intake.maximum_batching_window,
        starting_position="AT_TIMESTAMP",
        starting_position_timestamp=intake.starting_position_timestamp,
        parallelization_factor=4,
        bisect_batch_on_function_error=True,
        maximum_retry_attempts=5,
        maximum_record_age=intake.maximum_record_age,
        report_batch_item_failures=True,
        on_failure=SQS,
    )
    assert (intake.maximum_batching_window, intake.maximum_record_age) == (Duration(3), Duration(60))
    assert intake.starting_position_timestamp == 1_700_000_000.5


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "Unrecognized event source."),
        ({"EventSourceArn": "arn:aws:rds:us-east-1:000000000000:cluster:docs"}, "Unrecognized event source."),
        ({"EventSourceArn": "arn:aws:sqs:us-east-1:000000000000:not a queue"}, "Unrecognized event source."),
        (
            {"EventSourceArn": SQS, "BatchSize": 11},
            "Maximum batch window in seconds must be greater than 0 if maximum batch size is greater than 10",
        ),
        (
            {"EventSourceArn": KINESIS},
            "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: "
            "Member must not be null.",
        ),
        (
            {"EventSourceArn": DYNAMODB, "StartingPosition": "AT_TIMESTAMP", "StartingPositionTimestamp": 1.0},
            f"Unsupported starting position for arn type: {DYNAMODB}",
        ),
        (
            {"EventSourceArn": SQS, "DestinationConfig": {"OnFailure": {"Destination": SQS}}},
            "Unsupported DestinationConfig parameter for given event source mapping type.",
        ),
        (
            {
                "EventSourceArn": KINESIS,
                "StartingPosition": "LATEST",
                "DestinationConfig": {"OnSuccess": {"Destination": SQS}},
            },
            "Unsupported DestinationConfig parameter for given event source mapping type.",
        ),
        (
            {name: value for name, value in KAFKA.items() if name != "SourceAccessConfigurations"},
            "Required 'sourceAccessConfigurations' parameter is missing.",
        ),
        (
            {"EventSourceArn": SQS, "FilterCriteria": {"Filters": [{"Pattern": '{"body": "x"}'}]}},
            "Invalid filter pattern definition.",
        ),
        (
            {"EventSourceArn": SQS, "FilterCriteria": {"Filters": [{"Pattern": "no JSON"}]}},
            "Invalid filter pattern definition.",
        ),
        (
            {"EventSourceArn": f"{SQS}.fifo", "BatchSize": 11, "MaximumBatchingWindowInSeconds": 1},
            "Batch size must be at most 10 for a FIFO queue.",
        ),
    ],
)
def test_what_is_refused(asked: dict[str, Any], message: str) -> None:
    assert refused(**asked) == message


def test_an_update_leaves_what_it_does_not_name() -> None:
    before = create(
        EventSourceArn=SQS,
        BatchSize=5,
        ScalingConfig={"MaximumConcurrency": 3},
        FilterCriteria={"Filters": [{"Pattern": '{"body": {"a": [1]}}'}]},
    )
    assert mappings.wanted(before).intake.maximum_concurrency == 3
    after = mappings.updated(before, {"UUID": UUID, "Enabled": False, "BatchSize": 9}, None, SIGHT, 5)
    assert after.parameters == {**before.parameters, "BatchSize": 9}
    assert not after.enabled
    cleared = mappings.updated(after, {"ScalingConfig": {}, "FilterCriteria": {}}, None, SIGHT, 6)
    assert cleared.parameters.keys() == before.parameters.keys() - {"ScalingConfig", "FilterCriteria"}
    with pytest.raises(Refusal, match="Maximum batch window"):
        mappings.updated(before, {"BatchSize": 50}, None, SIGHT, 7)
    with pytest.raises(Refusal, match="Unsupported ParallelizationFactor parameter"):
        mappings.updated(before, {"ParallelizationFactor": 2}, None, SIGHT, 7)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"EventSourceArn": SQS},
            f'An event source mapping with SQS arn (" {SQS} ") and function (" f ") already exists. '
            f"Please update or delete the existing mapping with UUID {UUID}",
        ),
        (
            {"EventSourceArn": KINESIS, "StartingPosition": "LATEST"},
            f'The event source arn (" {KINESIS} ") and function (" f ") provided mapping already exists. '
            f"Please update or delete the existing mapping with UUID {UUID}",
        ),
        (
            KAFKA,
            f'An event source mapping with event source ("a:9092,b:9092"), function ("{FUNCTION.arn}"), '
            f'topics ("orders") already exists. Please update or delete the existing mapping with UUID {UUID}',
        ),
    ],
)
def test_a_second_one_is_refused(asked: dict[str, Any], message: str) -> None:
    there = create(**asked)
    second = mappings.created({"FunctionName": "f", **asked}, FUNCTION, UUID.replace("5", "6"), SIGHT, 0)
    with pytest.raises(Refusal) as told:
        mappings.refuse_second(second, {UUID: there})
    assert (told.value.code, told.value.message) == ("ResourceConflictException", message)
    mappings.refuse_second(there, {UUID: there})


def test_a_queue_must_keep_a_message_as_long_as_its_function_may_take() -> None:
    mappings.refuse_short_visibility(30, 30)
    with pytest.raises(Refusal) as told:
        mappings.refuse_short_visibility(30, 60)
    assert told.value.message == "Queue visibility timeout: 30 seconds is less than Function timeout: 60 seconds"


@given(st.text(max_size=60))
def test_no_arn_breaks_anything(text: str) -> None:
    with pytest.raises(Refusal):
        create(EventSourceArn=text)


@given(st.recursive(st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(), st.lists, max_leaves=5))
def test_any_pattern_is_taken_or_refused(pattern: Any) -> None:
    assert (
        refused(EventSourceArn=SQS, FilterCriteria={"Filters": [{"Pattern": json.dumps(pattern)}]})
        == "Invalid filter pattern definition."
    )
