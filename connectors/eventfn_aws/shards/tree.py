"""Shards as the two services list them -> shards as the host wants them: parents only where they still are.

PURE.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from eventfn.trigger import Shard


def tree(listed: Iterable[Mapping[str, Any]]) -> list[Shard]:
    """In the order of the list. A parent that is not listed has left the stream with all its records: nothing waits
    for it."""
    listed = list(listed)
    there = {shard["ShardId"] for shard in listed}
    return [
        Shard(
            id=shard["ShardId"],
            parents=tuple(
                parent
                for parent in (shard.get("ParentShardId"), shard.get("AdjacentParentShardId"))
                if parent in there and parent is not None
            ),
        )
        for shard in listed
    ]


def one_after_the_other(trees: Iterable[Sequence[Shard]]) -> list[Shard]:
    """The trees as one: what has no parent in a later tree waits for what has no child in the tree before it."""
    joined: list[Shard] = []
    ends: tuple[str, ...] = ()
    for shards in trees:
        joined += [shard if shard.parents else Shard(shard.id, ends) for shard in shards]
        with_children = {parent for shard in shards for parent in shard.parents}
        ends = tuple(shard.id for shard in shards if shard.id not in with_children) or ends
    return joined
