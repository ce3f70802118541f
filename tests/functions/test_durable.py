"""Durable executions: what checkpoints, time and callbacks make of one."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfn.functions import durable
from eventfn.functions.durable import Execution
from eventfn.functions.refusals import Refusal

START = 1_700_000_000_000


def execution(**more: Any) -> Execution:
    arn = "arn:aws:lambda:us-east-1:000000000000:function:f:1"
    base: dict[str, Any] = {
        "arn": f"{arn}/durable-execution/n/i",
        "name": "n",
        "id": "i",
        "function": "f",
        "function_arn": arn,
        "version": "1",
        "input": '{"a": 1}',
        "started_ms": START,
        "timeout_ms": 100_000,
        "retention_days": 1,
    }
    return durable.begun(Execution(**{**base, **more}))


def told(one: Execution, *updates: dict[str, Any], at: int = START) -> Execution:
    return durable.checkpointed(one, durable.token_of(one), updates, at)


def step(action: str, **more: Any) -> dict[str, Any]:
    return {"Id": "s", "Type": "STEP", "Action": action, **more}


def kinds(one: Execution) -> list[str]:
    return [event["EventType"] for event in one.events]


def test_the_function_is_told_its_operations_in_milliseconds() -> None:
    one = told(execution(), {"Id": "w", "Type": "WAIT", "Action": "START", "WaitOptions": {"WaitSeconds": 5}})
    event = json.loads(durable.envelope(one))
    first, wait = event["InitialExecutionState"]["Operations"]
    assert (first["Type"], first["ExecutionDetails"]) == ("EXECUTION", {"InputPayload": '{"a": 1}'})
    assert wait["WaitDetails"] == {"ScheduledEndTimestamp": START + 5000}
    assert durable.state(one)[1]["WaitDetails"] == {"ScheduledEndTimestamp": START / 1000 + 5}
    assert event["CheckpointToken"] == durable.token_of(one)


def test_what_is_too_much_for_an_event_is_asked_for() -> None:
    one = execution()
    for number in range(6):
        one = told(one, {"Id": str(number), "Type": "STEP", "Action": "SUCCEED", "Payload": "x" * 1_000_000})
    event = durable.envelope(one)
    assert len(event) < 6_000_000
    told_at_first = json.loads(event)["InitialExecutionState"]
    marker = int(told_at_first["NextMarker"])
    rest = durable.state(one)[marker:]
    together = [each["Id"] for each in (*told_at_first["Operations"], *rest)]
    assert together == ["i", *"012345"]


def test_a_token_is_worth_one_checkpoint() -> None:
    one = execution()
    first = durable.token_of(one)
    two = told(one, step("START"))
    for token in (first, "eA==", "!", durable.token_of(execution(id="j"))):
        with pytest.raises(Refusal, match="Invalid checkpoint token"):
            durable.checkpointed(two, token, [], START)


def test_a_step_is_tried_again_when_its_time_has_come() -> None:
    error = {"ErrorType": "E"}
    one = told(execution(), step("START"), step("RETRY", Error=error, StepOptions={"NextAttemptDelaySeconds": 2}))
    assert one.changes == one.seen
    assert durable.next_due(one) == START + 2000
    assert durable.ripened(one, START + 1999) is one
    ready = durable.ripened(one, START + 2000)
    assert (ready.operations["s"].status, ready.changes > ready.seen) == ("READY", True)
    again = told(ready, step("START"), step("SUCCEED", Payload="1"))
    assert (again.operations["s"].attempt, again.operations["s"].result) == (2, "1")
    assert kinds(again) == ["ExecutionStarted", "StepStarted", "StepFailed", "StepStarted", "StepSucceeded"]


def test_what_has_ended_stays_ended() -> None:
    one = told(execution(), step("START"), step("SUCCEED", Payload="1"))
    for update in (step("START"), step("FAIL"), {"Id": "s", "Type": "WAIT", "Action": "START"}):
        with pytest.raises(Refusal, match="has ended already, or is of another type"):
            told(one, update)
    with pytest.raises(Refusal, match="Invalid action CANCEL"):
        told(one, {**step("CANCEL"), "Id": "t"})


def test_a_callback_comes_or_is_given_up() -> None:
    options = {"TimeoutSeconds": 10, "HeartbeatTimeoutSeconds": 3}
    one = told(execution(), {"Id": "c", "Type": "CALLBACK", "Action": "START", "CallbackOptions": options})
    given_id = one.operations["c"].callback_id
    assert given_id is not None
    assert durable.of_callback(given_id) == ("f/i", "c")
    assert durable.next_due(one) == START + 3000
    alive = durable.beaten(one, "c", START + 2000)
    assert durable.next_due(alive) == START + 5000
    done = durable.called_back(alive, "c", START + 2500, result="yes")
    assert (done.operations["c"].status, done.operations["c"].result) == ("SUCCEEDED", "yes")
    with pytest.raises(Refusal, match="ended already"):
        durable.called_back(done, "c", START + 2600, result="again")
    late = durable.ripened(one, START + 3000)
    assert late.operations["c"].status == "TIMED_OUT"
    assert kinds(late)[-1] == "CallbackTimedOut"


def test_an_execution_that_takes_too_long_is_over() -> None:
    late = durable.ripened(execution(), START + 100_000)
    assert (late.status, late.is_over) == ("TIMED_OUT", True)
    assert durable.ripened(late, START + 200_000) is late
    assert not late.forgotten(START + 100_000 + 86_400_000)
    assert late.forgotten(START + 100_001 + 86_400_000)


_UPDATES = st.lists(
    st.fixed_dictionaries(
        {
            "Id": st.sampled_from("abc"),
            "Type": st.sampled_from(["STEP", "WAIT", "CALLBACK", "CONTEXT", "CHAINED_INVOKE", "EXECUTION"]),
            "Action": st.sampled_from(["START", "SUCCEED", "FAIL", "RETRY", "CANCEL"]),
        }
    ),
    max_size=20,
)


@given(_UPDATES, st.lists(st.integers(0, 120), max_size=20))
def test_whatever_is_checkpointed_the_history_is_whole(updates: list[dict[str, Any]], seconds: list[int]) -> None:
    one, now = execution(), START
    for number, update in enumerate(updates):
        now += 1000 * (seconds[number] if number < len(seconds) else 0)
        before = one
        one = durable.ripened(one, now)
        with contextlib.suppress(Refusal):
            one = told(one, update, at=now)
        assert one.events[: len(before.events)] == before.events
        assert one.changes >= before.changes
        assert before.status == "RUNNING" or one is before
    assert [event["EventId"] for event in one.events] == list(range(1, len(one.events) + 1))
    json.loads(durable.envelope(one))
