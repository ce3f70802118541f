"""Credentials of functions: of their execution role by STS where `[aws] endpoints.sts` names one, else the node's own.

An environment has the credentials that it was started with, for as long as it lives: they are variables of a process.
So it is given some that will do for a good while, and ended before they expire (workers/fleet.py), as Lambda does.
"""

from __future__ import annotations

import asyncio
import datetime

from eventfn.aws.clients import Clients, ServiceError
from eventfn.aws.sessions import Credentials, Sessions
from eventfn.clock import Clock
from eventfn.errors import ConnectorError
from eventfn.functions.model import Aws

OWN_SECONDS = 12 * 3600  # of credentials that the node gives
ROLE_SECONDS = 3600  # of a role's: what STS gives for a role unless its owner has allowed more
_SESSION_NAME = 2  # characters at least
_ROLES = 10_000  # whose credentials are kept, the latest


class RoleNotAssumable(ConnectorError):
    """STS has refused. The text is Lambda's."""

    def __init__(self, why: str) -> None:
        self.why = why  # STS's own words
        super().__init__("The role defined for the function cannot be assumed by Lambda.")


class Roles:
    def __init__(self, aws: Aws, sessions: Sessions, clients: Clients, clock: Clock) -> None:
        """No I/O."""
        self._aws = aws
        self._sessions = sessions
        self._clients = clients
        self._clock = clock
        self._kept: dict[tuple[str, str], Credentials] = {}
        self._asking: dict[tuple[str, str], asyncio.Task[Credentials]] = {}

    async def credentials(self, role: str | None, function: str) -> Credentials:
        """Of a function with this execution role; they last for half their time at least.

        Raises RoleNotAssumable, and ConnectorError when STS cannot be reached.
        """
        if role is None or "sts" not in self._aws.endpoints:
            expires = self._clock.now_ms() / 1000 + OWN_SECONDS
            return self._sessions.mint(self._principal(role, function), self._aws.account, expires)
        key = (role, function)
        kept = self._kept.get(key)
        if kept is not None and kept.expires - self._clock.now_ms() / 1000 > ROLE_SECONDS / 2:
            return kept
        # One question for all environments that are being started.
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._assume(role, function))
            task.add_done_callback(lambda _: self._asking.pop(key))
        return await asyncio.shield(task)

    async def check(self, role: str, function: str) -> None:
        """Whether Lambda could assume it, before a function is made with it. Raises as `credentials` does."""
        await self.credentials(role, function)

    async def _assume(self, role: str, function: str) -> Credentials:
        try:
            answer = await self._clients.call(
                "sts",
                "assume_role",
                RoleArn=role,
                RoleSessionName=function.ljust(_SESSION_NAME, "_"),
                DurationSeconds=ROLE_SECONDS,
            )
        except ServiceError as error:
            raise RoleNotAssumable(f"{error.code}: {error.message}") from error
        found = answer["Credentials"]
        expires: datetime.datetime = found["Expiration"]
        credentials = Credentials(
            access_key_id=found["AccessKeyId"],
            secret_access_key=found["SecretAccessKey"],
            session_token=found["SessionToken"],
            expires=expires.timestamp(),
        )
        self._sessions.remember(credentials, self._principal(role, function))
        self._kept.pop((role, function), None)
        self._kept[role, function] = credentials
        if len(self._kept) > _ROLES:
            del self._kept[next(iter(self._kept))]
        return credentials

    def _principal(self, role: str | None, function: str) -> str:
        """Who a function is to the node's own API."""
        name = (role or function).rpartition("/")[2]
        return f"arn:aws:sts::{self._aws.account}:assumed-role/{name}/{function}"
