"""The rules of triggers: what the host's settings ask of a source, and what clashes between triggers.

Only triggers without a mistake in their own table get here: between defaults that stand for mistakes nothing is to be
learned.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from eventfn.clock import SystemClock
from eventfn.declaring.settings import KeyPath, SettingsReader
from eventfn.functions.model import Project, TriggerBinding
from eventfn.plugins import Plugins, TriggerClass, is_stream
from eventfn.rules import filters
from eventfn.trigger import ListenContext, Listener, Traits

# Lambda's rules for queues (event source mappings: SQS).
_QUEUE_TRIGGERS = ("queue", "sqs")
_FIFO_BATCH_LIMIT = 10
_BATCH_LIMIT_WITHOUT_WINDOW = 10


class TriggerChecks:
    """`paths` says where each trigger is declared, by its source."""

    def __init__(
        self, project: Project, plugins: Plugins, reader: SettingsReader, paths: Mapping[str, KeyPath]
    ) -> None:
        self._project = project
        self._plugins = plugins
        self._reader = reader
        self._paths = paths

    def run(self) -> None:
        bindings = [binding for function in self._project.functions.values() for binding in function.triggers]
        for binding in bindings:
            plugin = self._plugins.trigger(binding.type)
            self._filters(binding, plugin)
            self._batches(binding, plugin.traits)
            self._own(binding, plugin)
            if is_stream(plugin.traits):
                self._stream(binding, plugin)
        for name in self._plugins.trigger_names:
            if bound := [binding for binding in bindings if binding.type == name]:
                self._listener(name, bound)

    def _find(self, binding: TriggerBinding, key: str, message: str, *more: str | int) -> None:
        self._reader.find((*self._paths[binding.source], key, *more), message)

    def _filters(self, binding: TriggerBinding, plugin: TriggerClass) -> None:
        data_key, filtering = getattr(plugin, "data_key", None), getattr(plugin, "filtering", None)
        patterns = binding.intake.filter_criteria
        for at, pattern in enumerate(patterns):
            try:
                filters.compile_pattern(pattern, data_key, filtering)
            except ValueError as error:
                self._find(binding, "filter_criteria", f"is not a filter pattern: {error}", at)
        if len(patterns) > filters.MAX_PATTERNS:
            message = f"expected at most {filters.MAX_PATTERNS} patterns, got {len(patterns)}"
            self._find(binding, "filter_criteria", message)

    def _batches(self, binding: TriggerBinding, traits: Traits) -> None:
        if traits.invocation != "request_response":
            return
        size = binding.intake.batch_size
        window = binding.intake.maximum_batching_window
        if size is not None and size > traits.max_batch_size:
            self._find(binding, "batch_size", f"expected at most {traits.max_batch_size} for this trigger, got {size}")
            return
        if binding.type not in _QUEUE_TRIGGERS:
            return
        name: str = binding.settings.queue
        declared = self._project.queues.get(name) if binding.type == "queue" else None
        if name.endswith(".fifo") if declared is None else declared.fifo:
            if window:
                self._find(binding, "maximum_batching_window", f"a FIFO queue has none, and '{name}' is one")
            if size is not None and size > _FIFO_BATCH_LIMIT:
                message = f"expected at most {_FIFO_BATCH_LIMIT} for a FIFO queue, got {size}"
                self._find(binding, "batch_size", message)
        elif size is not None and size > _BATCH_LIMIT_WITHOUT_WINDOW and not window:
            message = f"more than {_BATCH_LIMIT_WITHOUT_WINDOW} needs a maximum_batching_window, got {size}"
            self._find(binding, "batch_size", message)

    def _own(self, binding: TriggerBinding, plugin: Any) -> None:
        """What only the connector can say of its tables. One that listens is asked about all its triggers at once."""
        if plugin.traits.invocation == "listen" or not hasattr(plugin, "check"):
            return
        shared = self._project.shared.get(binding.type)
        if shared is not None and (wrong := plugin.check(binding.settings, shared)) is not None:
            self._find(binding, *wrong)

    def _stream(self, binding: TriggerBinding, plugin: Any) -> None:
        intake, traits = binding.intake, plugin.traits
        if intake.starting_position not in (None, *traits.starting_positions):
            expected = ", ".join(traits.starting_positions)
            self._find(binding, "starting_position", f"expected one of {expected} for this trigger")
        elif (intake.starting_position == "AT_TIMESTAMP") != (intake.starting_position_timestamp is not None):
            message = 'goes together with starting_position = "AT_TIMESTAMP"'
            self._find(binding, "starting_position_timestamp", message)
        if intake.tumbling_window and not hasattr(plugin, "shards"):
            self._find(binding, "tumbling_window", "this trigger has none: its server keeps positions, but no state")
        elif intake.tumbling_window and intake.parallelization_factor > 1:
            self._find(binding, "tumbling_window", "needs parallelization_factor = 1: a window has one state")

    def _listener(self, name: str, bound: list[TriggerBinding]) -> None:
        """A connector that listens sees all its triggers at once: what clashes is a matter of all of them."""
        plugin: Any = self._plugins.trigger(name)
        shared = self._project.shared.get(name)
        if plugin.traits.invocation != "listen" or (shared is None and plugin.Shared is not None):
            return
        context = ListenContext(
            folder=self._project.folder,
            region=self._project.aws.region,
            account=self._project.aws.account,
            clock=SystemClock(),
            log=logging.getLogger(f"eventfn.{name}"),
        )
        listener = plugin(shared, context)
        assert isinstance(listener, Listener), "plugins.py has held what listens against this protocol"
        for at, key, message in listener.check([binding.settings for binding in bound]):
            self._find(bound[at], key, message)
