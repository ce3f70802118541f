"""The metrics as text, in Prometheus' exposition format 0.0.4 (github.com/prometheus/docs, exposition_formats.md).

PURE. Counters come from `Metrics`, what is true at this moment (depths, environments, lag) from the status document.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from eventfn.observe.metrics import BOUNDS_MS, Histogram, Metrics
from eventfn.observe.status import Depth, FunctionStatus, Records, Status

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition(metrics: Metrics, status: Status) -> str:
    """The whole of `GET /metrics`."""
    return "".join(f"{line}\n" for line in _families(metrics, status))


def _families(metrics: Metrics, status: Status) -> Iterator[str]:
    yield from _family("eventfn_build_info", "gauge", "The running version.")
    yield _sample("eventfn_build_info", {"version": status.version, "python": status.python}, 1)
    yield from _family("eventfn_start_time_seconds", "gauge", "When the node started, seconds since the epoch.")
    yield _sample("eventfn_start_time_seconds", {}, status.started_ms / 1000)
    yield from _counters(metrics)
    yield from _histograms(metrics)
    yield from _functions(status)
    yield from _depths(status)
    yield from _sources(status)


def _counters(metrics: Metrics) -> Iterator[str]:
    per_function = (
        ("invocations", "Invocations started, every attempt of an asynchronous event included."),
        ("errors", "Invocations that ended with an error of the function."),
        ("system_errors", "Invocations that ended with an error of eventfn."),
        ("throttles", "Requests turned away for lack of capacity."),
        ("cold_starts", "Invocations that waited for the function's init."),
        ("events_received", "Asynchronous events accepted."),
        ("events_dropped", "Asynchronous events given up and sent to dead letters or the on-failure destination."),
    )
    for field, meaning in per_function:
        name = f"eventfn_{field}_total"
        yield from _family(name, "counter", meaning)
        for function, counters in metrics.functions.items():
            yield _sample(name, {"function": function}, getattr(counters, field))
    yield from _family("eventfn_destination_records_total", "counter", "Records written by a destination.")
    yield _sample("eventfn_destination_records_total", {}, metrics.records_delivered)
    yield from _family("eventfn_destination_failures_total", "counter", "Tries that a destination did not take.")
    yield _sample("eventfn_destination_failures_total", {}, metrics.delivery_failures)
    name = "eventfn_signature_validation_errors_total"
    yield from _family(name, "counter", "Code and layers without a verified signature, where a config asks for one.")
    yield _sample(name, {}, metrics.signature_validation_errors)
    name = "eventfn_cloudwatch_log_events_dropped_total"
    yield from _family(name, "counter", "Log events that the CloudWatch Logs of [aws] endpoints.logs did not get.")
    yield _sample(name, {}, metrics.log_events_dropped)


def _histograms(metrics: Metrics) -> Iterator[str]:
    for field, meaning in (
        ("duration", "How long handlers ran, init not included."),
        ("init_duration", "How long init took on cold starts."),
    ):
        name = f"eventfn_{field}_seconds"
        yield from _family(name, "histogram", meaning)
        for function, counters in metrics.functions.items():
            yield from _histogram(name, {"function": function}, getattr(counters, field))


def _histogram(name: str, labels: Mapping[str, str], histogram: Histogram) -> Iterator[str]:
    below = 0
    for bound, count in zip(BOUNDS_MS, histogram.buckets, strict=False):  # the last bucket, above all bounds, is +Inf
        below += count
        yield _sample(f"{name}_bucket", {**labels, "le": f"{bound / 1000:g}"}, below)
    yield _sample(f"{name}_bucket", {**labels, "le": "+Inf"}, histogram.count)
    yield _sample(f"{name}_sum", labels, histogram.total_us / 1_000_000)
    yield _sample(f"{name}_count", labels, histogram.count)


def _functions(status: Status) -> Iterator[str]:
    yield from _family("eventfn_in_flight", "gauge", "Invocations running.")
    for function in status.functions:
        yield _sample("eventfn_in_flight", _named(function), function.environments.in_flight)
    yield from _family("eventfn_waiting", "gauge", "Invocations admitted that wait for an environment.")
    for function in status.functions:
        yield _sample("eventfn_waiting", _named(function), function.environments.waiting)
    yield from _family("eventfn_environments", "gauge", "Execution environments.")
    for function in status.functions:
        here = function.environments
        busy = here.total - here.idle - here.starting
        for state, count in (("idle", here.idle), ("starting", here.starting), ("busy", busy)):
            yield _sample("eventfn_environments", {**_named(function), "state": state}, count)
    yield from _family("eventfn_log_lines_dropped_total", "counter", "Log lines lost to a flood or a full disk.")
    for function in status.functions:
        yield _sample("eventfn_log_lines_dropped_total", _named(function), function.log_lines_dropped)


def _depths(status: Status) -> Iterator[str]:
    events = [({"function": function.name}, function.events) for function in status.functions]
    yield from _depth("eventfn_async_events", "Asynchronous events on disk", events, status.now_ms)
    queues = [({"queue": queue.name}, queue.depth) for queue in status.queues]
    yield from _depth("eventfn_queue_messages", "Messages in a named queue", queues, status.now_ms)
    outbox = [({"destination": box.destination}, box.depth) for box in status.outbox]
    yield from _depth("eventfn_outbox_records", "Records waiting for a destination", outbox, status.now_ms)
    yield from _family("eventfn_dead_letters", "gauge", "Messages in queues that hold what failed.")
    for queue in status.queues:
        if queue.dead_letter_for:
            yield _sample("eventfn_dead_letters", {"queue": queue.name}, queue.depth.total)


def _depth(name: str, meaning: str, depths: list[tuple[dict[str, str], Depth]], now_ms: int) -> Iterator[str]:
    yield from _family(name, "gauge", f"{meaning}, by state.")
    for labels, depth in depths:
        for state in ("visible", "in_flight", "delayed"):
            yield _sample(name, {**labels, "state": state}, getattr(depth, state))
    yield from _family(f"{name}_oldest_age_seconds", "gauge", f"{meaning}: age of the oldest, 0 when there is none.")
    for labels, depth in depths:
        age = 0 if depth.oldest_ms is None else max(0, now_ms - depth.oldest_ms) / 1000
        yield _sample(f"{name}_oldest_age_seconds", labels, age)


def _sources(status: Status) -> Iterator[str]:
    sources = [
        ({"function": function.name, "source": source.source, "type": source.type}, source)
        for function in status.functions
        for source in function.triggers
    ]
    yield from _family("eventfn_source_up", "gauge", "1 while a trigger is connected to its source.")
    for labels, source in sources:
        yield _sample("eventfn_source_up", labels, int(source.state == "running"))
    yield from _family("eventfn_source_lag", "gauge", "Records waiting in a source, by its own word.")
    for labels, source in sources:
        if source.lag is not None:
            yield _sample("eventfn_source_lag", labels, source.lag)
    yield from _family("eventfn_source_iterator_age_seconds", "gauge", "Age of a stream's first record not yet done.")
    for labels, source in sources:
        if source.iterator_age_ms is not None:
            yield _sample("eventfn_source_iterator_age_seconds", labels, source.iterator_age_ms / 1000)
    yield from _family("eventfn_source_records_total", "counter", "Records of a source, by what became of them.")
    for labels, source in sources:
        for result, count in _asdict(source.records).items():
            yield _sample("eventfn_source_records_total", {**labels, "result": result}, count)


def _named(function: FunctionStatus) -> dict[str, str]:
    return {"function": function.name}


def _asdict(records: Records | None) -> dict[str, int]:
    return {} if records is None else msgspec.structs.asdict(records)


# --- the format -------------------------------------------------------------------------------------------------------


def _family(name: str, kind: str, meaning: str) -> Iterator[str]:
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} {kind}"


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    if not labels:
        return f"{name} {value!r}"
    shown = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
    return f"{name}{{{shown}}} {value!r}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
