"""Counters add up, and the exposition is what a Prometheus parser reads."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from eventfn.event import Outcome, OutcomeKind
from eventfn.observe.exposition import exposition
from eventfn.observe.metrics import BOUNDS_MS, Histogram, Metrics
from eventfn.observe.status import (
    Depth,
    Environments,
    FunctionStatus,
    LastError,
    OutboxStatus,
    QueueStatus,
    Records,
    SourceStatus,
    Status,
)

Sample = tuple[str, tuple[tuple[str, str], ...]]


def parse(text: str) -> tuple[dict[str, str], dict[Sample, float]]:
    """A reader of the text format, written from its description: types by family, values by name and labels."""
    types: dict[str, str] = {}
    helped: set[str] = set()
    values: dict[Sample, float] = {}
    assert text.endswith("\n")
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            helped.add(line.split(" ", 3)[2])
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name in helped
            assert name not in types, "a family stands in one place"
            types[name] = kind
        else:
            found = re.fullmatch(r"([a-z_:][a-z0-9_:]*)(?:\{(.*)\})? (\S+)", line)
            assert found, line
            labels: list[tuple[str, str]] = []
            rest = found[2] or ""
            while rest:
                label = re.match(r'([a-z_]+)="((?:[^"\\]|\\["\\n])*)",?', rest)
                assert label, rest
                text_of = re.sub(r"\\(.)", lambda match: {"n": "\n"}.get(match[1], match[1]), label[2])
                labels.append((label[1], text_of))
                rest = rest[label.end() :]
            family = re.sub(r"_(bucket|sum|count)$", "", found[1])
            assert types.get(family) == "histogram" or found[1] in types, line
            sample = (found[1], tuple(labels))
            assert sample not in values, line
            values[sample] = float(found[3])
    return types, values


def status(**fields: object) -> Status:
    base = {
        "version": "1",
        "python": "3.11",
        "pid": 1,
        "started_ms": 1_500,
        "now_ms": 10_000,
        "folder": "/p",
        "data": "/d",
    }
    return Status(**{**base, **fields})  # type: ignore[arg-type]  # a table of fields


def test_outcomes_are_counted_by_kind() -> None:
    counters = Metrics().function("f")
    counters.invocations += 3
    counters.finished(Outcome(OutcomeKind.SUCCESS, b"1", duration_ms=3, init_ms=40))
    counters.finished(
        Outcome(OutcomeKind.FUNCTION_ERROR, b"{}", "id", error_type="ValueError", error_message="no", duration_ms=7)
    )
    counters.finished(Outcome(OutcomeKind.SYSTEM_ERROR, b"{}", "id2", error_message="gone"))
    counts = counters.counts()
    assert (counts.invocations, counts.errors, counts.system_errors, counts.cold_starts) == (3, 1, 1, 1)
    assert counters.duration.count == 2
    assert counters.init_duration.count == 1
    assert counters.last_error == LastError("id2", "", "gone")


def test_a_function_keeps_its_counters() -> None:
    metrics = Metrics()
    metrics.function("f").invocations += 1
    assert metrics.function("f").invocations == 1


@given(st.lists(st.floats(0, 2_000_000, allow_nan=False)))
def test_a_histogram_counts_each_duration_in_the_first_bucket_that_holds_it(durations: list[float]) -> None:
    histogram = Histogram()
    for duration in durations:
        histogram.observe(duration)
    for index, bound in enumerate(BOUNDS_MS):
        assert sum(histogram.buckets[: index + 1]) == sum(duration <= bound for duration in durations)
    assert histogram.count == len(durations)
    assert abs(histogram.total_us - sum(durations) * 1000) <= len(durations)


def test_everything_that_is_measured_is_exposed() -> None:
    metrics = Metrics()
    counters = metrics.function("thumb")
    counters.invocations, counters.throttles, counters.events_received = 5, 2, 4
    counters.finished(Outcome(OutcomeKind.FUNCTION_ERROR, b"{}", duration_ms=3.5))
    metrics.delivery_failures = 6
    source = SourceStatus("files", "thumb/files/1", state="down", lag=12, records=Records(read=9))
    document = status(
        functions=[
            FunctionStatus(
                name="thumb",
                arn="",
                handler="",
                runtime="",
                memory_size=128,
                timeout=3,
                triggers=[source, SourceStatus("http", "thumb/http/1")],
                environments=Environments(total=5, idle=2, starting=1, in_flight=2),
                events=Depth(visible=3, oldest_ms=4_000),
                log_lines_dropped=8,
            )
        ],
        queues=[
            QueueStatus("dead", Depth(visible=1, delayed=1), dead_letter_for=["fn:thumb"]),
            QueueStatus("work", Depth(in_flight=7)),
        ],
        outbox=[OutboxStatus("https://x", Depth(visible=2, oldest_ms=9_000))],
    )
    types, values = parse(exposition(metrics, document))
    thumb = ("function", "thumb")
    labels = (thumb, ("source", "thumb/files/1"), ("type", "files"))
    expected: dict[Sample, float] = {
        ("eventfn_build_info", (("version", "1"), ("python", "3.11"))): 1,
        ("eventfn_start_time_seconds", ()): 1.5,
        ("eventfn_invocations_total", (thumb,)): 5,
        ("eventfn_errors_total", (thumb,)): 1,
        ("eventfn_throttles_total", (thumb,)): 2,
        ("eventfn_events_received_total", (thumb,)): 4,
        ("eventfn_destination_failures_total", ()): 6,
        ("eventfn_duration_seconds_bucket", (thumb, ("le", "0.002"))): 0,
        ("eventfn_duration_seconds_bucket", (thumb, ("le", "0.005"))): 1,
        ("eventfn_duration_seconds_bucket", (thumb, ("le", "900"))): 1,
        ("eventfn_duration_seconds_bucket", (thumb, ("le", "+Inf"))): 1,
        ("eventfn_duration_seconds_sum", (thumb,)): 0.0035,
        ("eventfn_duration_seconds_count", (thumb,)): 1,
        ("eventfn_in_flight", (thumb,)): 2,
        ("eventfn_environments", (thumb, ("state", "busy"))): 2,
        ("eventfn_async_events", (thumb, ("state", "visible"))): 3,
        ("eventfn_async_events_oldest_age_seconds", (thumb,)): 6,
        ("eventfn_queue_messages", (("queue", "work"), ("state", "in_flight"))): 7,
        ("eventfn_queue_messages_oldest_age_seconds", (("queue", "work"),)): 0,
        ("eventfn_dead_letters", (("queue", "dead"),)): 2,
        ("eventfn_outbox_records_oldest_age_seconds", (("destination", "https://x"),)): 1,
        ("eventfn_log_lines_dropped_total", (thumb,)): 8,
        ("eventfn_source_up", labels): 0,
        ("eventfn_source_lag", labels): 12,
        ("eventfn_source_records_total", (*labels, ("result", "read"))): 9,
    }
    assert {sample: values.get(sample) for sample in expected} == expected
    assert types["eventfn_duration_seconds"] == "histogram"
    assert types["eventfn_invocations_total"] == "counter"
    assert ("eventfn_dead_letters", (("queue", "work"),)) not in values
    lags = [sample for sample in values if sample[0] == "eventfn_source_lag"]
    assert lags == [("eventfn_source_lag", labels)], "a source that cannot say its lag has none"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_label_survives_the_format(name: str) -> None:
    metrics = Metrics()
    metrics.function(name).invocations = 1
    _, values = parse(exposition(metrics, status()))
    assert values["eventfn_invocations_total", (("function", name),)] == 1
