"""The engine of tests: the port's semantics in plain dicts. Nothing survives the object, all survives `close`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import msgspec

from eventfn.engine.contract import (
    Claim,
    Complete,
    Conflict,
    Expect,
    Extend,
    Lease,
    Message,
    Move,
    Operation,
    Put,
    QueueFull,
    QueueStats,
    Release,
    Send,
)
from eventfn.errors import EngineError, Fenced

_ABSENT: Any = object()


class MemoryEngine:
    """See eventfn.engine.contract.Engine. Every state stands in a dict that only `_set` changes: so a refused commit is
    undone by setting everything back."""

    def __init__(self) -> None:
        self._queues: dict[str, dict[int, Message]] = {}  # by sequence; Claim.fence 0: held by nobody
        self._seen: dict[tuple[str, str], tuple[str, int]] = {}  # (queue, dedupe key) -> message id, until
        self._facts: dict[str, bytes] = {}
        self._leases: dict[str, Lease] = {}
        self._blobs: dict[str, bytes] = {}
        self._listeners: list[Callable[[str], None]] = []
        self._undo: list[tuple[dict[Any, Any], Any, Any]] = []
        self._touched: set[str] = set()
        self._sequence = 0
        self._opened = False

    async def open(self, now: int) -> None:
        assert not self._opened, "opened twice"
        self._opened = True
        for messages in self._queues.values():
            for message in messages.values():
                if message.claim.fence:
                    self._change(message, now, claim=_unheld(message.claim), visible_ms=now)
        for lease in self._leases.values():
            self._set(self._leases, lease.name, msgspec.structs.replace(lease, owner="", until_ms=0))
        self._undo.clear()
        self._touched.clear()

    async def close(self) -> None:
        self._opened = False

    async def commit(self, operations: Sequence[Operation], now: int) -> list[str | None]:
        self._must_be_open()
        try:
            result = [self._apply(operation, now) for operation in operations]
        except BaseException:
            for table, key, value in reversed(self._undo):
                self._restore(table, key, value)
            self._touched.clear()
            raise
        finally:
            self._undo.clear()
        self._tell()
        return result

    async def claim(
        self,
        queue: str,
        limit: int,
        until_ms: int,
        now: int,
        *,
        max_claims: int | None = None,
        dead_letters: str | None = None,
    ) -> list[Message]:
        self._must_be_open()
        claimed: list[Message] = []
        closed: set[str | None] = {  # groups that give nothing: one is in flight, or an earlier one is not visible yet
            message.group for message in self._in(queue) if message.claim.fence and message.visible_ms > now
        }
        for message in self._in(queue):
            if len(claimed) == limit:
                break
            if message.visible_ms > now:
                closed.add(message.group)
            if message.visible_ms > now or (message.group is not None and message.group in closed):
                continue
            if max_claims is not None and dead_letters is not None and message.claims >= max_claims:
                if any(message.group == ahead.group is not None for ahead in claimed):
                    closed.add(message.group)  # its turn comes when those ahead of it are settled
                    continue
                self._bury(message, dead_letters, {}, now)
                continue
            claims = message.claims + 1
            claimed.append(
                self._change(
                    message,
                    now,
                    claim=Claim(queue, message.sequence, claims),
                    claims=claims,
                    attempts=message.attempts + 1,
                    first_claimed_ms=message.first_claimed_ms or now,
                    visible_ms=until_ms,
                )
            )
        self._undo.clear()
        self._tell()
        return claimed

    async def next_visible(self, prefix: str) -> dict[str, int]:
        self._must_be_open()
        earliest: dict[str, int] = {}
        for queue in self._queues:
            heads: dict[str | None, int] = {}
            for message in self._in(queue):
                group = message.group
                if group is None:
                    earliest[queue] = min(earliest.get(queue, message.visible_ms), message.visible_ms)
                elif group not in heads or message.claim.fence:
                    heads[group] = max(heads.get(group, 0), message.visible_ms)
            for visible in heads.values():
                earliest[queue] = min(earliest.get(queue, visible), visible)
        return {queue: visible for queue, visible in sorted(earliest.items()) if queue.startswith(prefix)}

    def on_send(self, listener: Callable[[str], None]) -> None:
        self._listeners.append(listener)

    async def peek(self, queue: str, limit: int, after: int = 0) -> list[Message]:
        self._must_be_open()
        later = [message for message in self._in(queue) if message.sequence > after]
        return [msgspec.structs.replace(message, claim=_unheld(message.claim)) for message in later[:limit]]

    async def purge(self, queue: str) -> int:
        self._must_be_open()
        return len(self._queues.pop(queue, {}))

    async def stats(self, prefix: str, now: int) -> list[QueueStats]:
        self._must_be_open()
        stats: list[QueueStats] = []
        for queue in sorted(name for name, messages in self._queues.items() if messages and name.startswith(prefix)):
            messages = self._in(queue)
            waiting = [message for message in messages if message.visible_ms > now]
            in_flight = sum(message.claim.fence > 0 for message in waiting)
            stats.append(
                QueueStats(
                    queue,
                    visible=len(messages) - len(waiting),
                    in_flight=in_flight,
                    delayed=len(waiting) - in_flight,
                    oldest_ms=messages[0].sent_ms,
                )
            )
        return stats

    async def get(self, key: str) -> bytes | None:
        self._must_be_open()
        return self._facts.get(key)

    async def scan(self, prefix: str) -> dict[str, bytes]:
        self._must_be_open()
        return {key: value for key, value in sorted(self._facts.items()) if key.startswith(prefix)}

    async def acquire(self, name: str, owner: str, until_ms: int, now: int) -> Lease | None:
        self._must_be_open()
        held = self._leases.get(name, Lease(name, "", 0, 0))
        if held.owner and held.owner != owner and held.until_ms > now:
            return None
        epoch = held.epoch if held.owner == owner else held.epoch + 1
        self._leases[name] = Lease(name, owner, epoch, until_ms)
        return self._leases[name]

    async def give_up(self, lease: Lease) -> None:
        self._must_be_open()
        held = self._leases.get(lease.name)
        if held is not None and (held.owner, held.epoch) == (lease.owner, lease.epoch):
            self._leases[lease.name] = msgspec.structs.replace(held, owner="", until_ms=0)

    async def put_blob(self, chunks: Iterable[bytes]) -> str:
        self._must_be_open()
        content = b"".join(chunks)
        digest = hashlib.sha256(content).hexdigest()
        self._blobs[digest] = content
        return digest

    async def get_blob(self, digest: str) -> bytes | None:
        self._must_be_open()
        return self._blobs.get(digest)

    async def drop_blobs(self, keep: Collection[str]) -> int:
        self._must_be_open()
        before, self._blobs = self._blobs, {name: each for name, each in self._blobs.items() if name in keep}
        return len(before) - len(self._blobs)

    # --- the operations -----------------------------------------------------------------------------------------------

    def _apply(self, operation: Operation, now: int) -> str | None:
        match operation:
            case Send():
                return self._send(operation, now)
            case Complete():
                message = self._held(operation.claim)
                self._set(self._queues[message.queue], message.sequence, _ABSENT)
                if message.group is not None:
                    self._touched.add(message.queue)
            case Release():
                message = self._held(operation.claim)
                self._change(
                    message,
                    now,
                    claim=_unheld(message.claim),
                    visible_ms=operation.visible_ms or now,
                    attempts=message.attempts - (not operation.count),
                    last_error=message.last_error if operation.error is None else operation.error,
                )
            case Extend():
                self._change(self._held(operation.claim), now, visible_ms=operation.until_ms)
            case Move():
                self._bury(self._held(operation.claim), operation.queue, operation.attributes, now)
            case Put():
                self._set(self._facts, operation.key, _ABSENT if operation.value is None else operation.value)
            case Expect():
                if self._facts.get(operation.key) != operation.value:
                    raise Conflict(f"{operation.key} has changed")
        return None

    def _send(self, send: Send, now: int) -> str:
        if send.dedupe_key is not None:
            known, until = self._seen.get((send.queue, send.dedupe_key), ("", 0))
            if until > now and send.only_new:
                raise Conflict(f"{send.dedupe_key} was sent to {send.queue} before")
            if until > now:
                return known
        if send.limit is not None and len(self._in(send.queue)) >= send.limit:
            raise QueueFull(send.queue, send.limit)
        if send.dedupe_key is not None:
            self._set(self._seen, (send.queue, send.dedupe_key), (send.id, send.dedupe_until_ms))
        self._insert(
            Message(
                claim=Claim(send.queue, 0, 0),
                id=send.id,
                body=send.body,
                attributes=dict(send.attributes),
                attempts=0,
                claims=0,
                sent_ms=now,
                first_claimed_ms=0,
                visible_ms=send.visible_ms or now,
                group=send.group,
                dedupe_key=send.dedupe_key,
            )
        )
        return send.id

    def _insert(self, message: Message) -> None:
        self._sequence += 1
        placed = msgspec.structs.replace(message, claim=Claim(message.queue, self._sequence, 0))
        self._set(self._queues.setdefault(message.queue, {}), self._sequence, placed)
        self._touched.add(message.queue)

    def _bury(self, message: Message, target: str, added: dict[str, str], now: int) -> None:
        """To the end of another queue as a new message: its own sequence, no attempts, sent now."""
        self._set(self._queues[message.queue], message.sequence, _ABSENT)
        self._touched.add(message.queue)
        self._insert(
            msgspec.structs.replace(
                message,
                claim=Claim(target, 0, 0),
                attributes=message.attributes | added,
                attempts=0,
                claims=0,
                sent_ms=now,
                first_claimed_ms=0,
                visible_ms=now,
            )
        )

    def _held(self, claim: Claim) -> Message:
        message = self._queues.get(claim.queue, {}).get(claim.sequence)
        if message is None or not claim.fence or message.claim.fence != claim.fence:
            raise Fenced(f"message {claim.sequence} of {claim.queue} was claimed by another, settled or purged since")
        return message

    def _change(self, message: Message, now: int, **fields: Any) -> Message:
        changed = msgspec.structs.replace(message, **fields)
        self._set(self._queues[message.queue], message.sequence, changed)
        if not ("claims" in fields and changed.visible_ms > now):
            self._touched.add(message.queue)
        return changed

    def _in(self, queue: str) -> list[Message]:
        return [message for _, message in sorted(self._queues.get(queue, {}).items())]

    # --- the state ----------------------------------------------------------------------------------------------------

    def _set(self, table: dict[Any, Any], key: Any, value: Any) -> None:
        self._undo.append((table, key, table.get(key, _ABSENT)))
        self._restore(table, key, value)

    def _restore(self, table: dict[Any, Any], key: Any, value: Any) -> None:
        if value is _ABSENT:
            table.pop(key, None)
        else:
            table[key] = value

    def _tell(self) -> None:
        touched, self._touched = self._touched, set()
        for queue in touched:
            for listener in self._listeners:
                listener(queue)

    def _must_be_open(self) -> None:
        if not self._opened:
            raise EngineError("The engine is closed")


def _unheld(claim: Claim) -> Claim:
    return Claim(claim.queue, claim.sequence, 0)
