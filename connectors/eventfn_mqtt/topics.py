"""What may be published to, and what may be subscribed to. Source: MQTT 5.0, chapters 4.7 and 4.8.

PURE.
"""

from __future__ import annotations

_LONGEST = 65_535  # bytes


def name_problem(topic: str) -> str | None:
    """What is wrong with a topic to publish to, or None."""
    if "+" in topic or "#" in topic:
        return "a topic to publish to has no wildcards"
    if topic.startswith("$"):
        return "topics that begin with $ are the broker's own"
    return _text_problem(topic)


def filter_problem(pattern: str) -> str | None:
    """What is wrong with a topic filter, or None."""
    shared, _, rest = pattern.partition("/")
    if shared == "$share":
        group, slash, pattern = rest.partition("/")
        if not group or not slash or "+" in group or "#" in group:
            return "a shared subscription is $share/GROUP/FILTER"
    levels = pattern.split("/")
    if any("#" in level and level != "#" for level in levels) or "#" in levels[:-1]:
        return "# stands alone, at the end of a topic filter"
    if any("+" in level and level != "+" for level in levels):
        return "+ stands alone between two slashes"
    return _text_problem(pattern)


def _text_problem(text: str) -> str | None:
    if not text:
        return "a topic has at least one character"
    if "\0" in text:
        return "a topic has no character 0"
    if len(text.encode()) > _LONGEST:
        return f"a topic has at most {_LONGEST} bytes"
    return None
