"""README's table of sources and settings says what the code does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from eventfn.plugins import Plugins, intake_keys, is_stream

README = (Path(__file__).parents[1] / "README.md").read_text()

Knob = Callable[[Any], bool]


def setting(name: str) -> Knob:
    return lambda plugin: name in intake_keys(plugin.traits)


# heading -> whether a source has it
KNOBS: dict[str, Knob] = {
    "filters": setting("filter_criteria"),
    "batches, window": setting("batch_size"),
    "partial failures": setting("report_batch_item_failures"),
    "concurrency": setting("maximum_concurrency"),
    "start, lanes by key": setting("starting_position"),
    "bisect, retries, age, on_failure": setting("bisect_batch_on_function_error"),
    "tumbling windows": lambda plugin: is_stream(plugin.traits) and hasattr(plugin, "shards"),
    "leases extended": lambda plugin: hasattr(plugin, "extend"),
    "lag": lambda plugin: is_stream(plugin.traits) or hasattr(plugin, "pending"),
}
HANDED_OVER = {"request_response": "batches", "event": "durable events", "listen": "requests"}


def table() -> str:
    plugins = Plugins.installed()
    rows = [f"| source | hands over | {' | '.join(KNOBS)} |", f"|---|---|{'---|' * len(KNOBS)}"]
    for name in plugins.trigger_names:
        plugin: Any = plugins.trigger(name)
        marks = ["●" if has(plugin) else "" for has in KNOBS.values()]
        handed_over = "shards" if is_stream(plugin.traits) else HANDED_OVER[plugin.traits.invocation]
        rows.append(f"| `{name}` | {handed_over} | {' | '.join(marks)} |")
    return "\n".join(rows)


def test_the_table_of_sources_in_the_readme_is_what_the_code_does() -> None:
    assert table() in README, f"README.md should have this table:\n\n{table()}\n"
