"""What each environment is started with beyond its function's own: endpoints, credentials, and the way to both."""

from __future__ import annotations

from eventfn.aws import endpoints
from eventfn.aws.endpoints import Told
from eventfn.aws.roles import Roles
from eventfn.functions.model import Aws, Function, Network


class Surroundings:
    """`api` is "host:port" of the node's own API: set once it listens, before anything runs."""

    def __init__(self, aws: Aws, roles: Roles) -> None:
        self.api = ""
        self._aws = aws
        self._roles = roles

    def network(self, function: Function) -> Network:
        return endpoints.network(function.network, self._aws, self.api)

    async def told(self, function: Function, runtime: str) -> tuple[Told, float]:
        """The variables of an environment that is started now, and until when they will do, in seconds since the epoch.

        Raises RoleNotAssumable, ConnectorError.
        """
        credentials = await self._roles.credentials(function.role, function.name)
        told = Told(endpoints.variables(self._aws, self.api), endpoints.credential_variables(credentials, runtime))
        return told, credentials.expires
