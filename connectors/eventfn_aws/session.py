"""The heavy half of a client: everything that touches aiobotocore. Imported with the first client, by a thread."""

from __future__ import annotations

import asyncio
import importlib
import io
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

import aiohttp

from eventfn.errors import ConnectorError
from eventfn_aws.errors import AwsError, short_code
from eventfn_aws.settings import AwsSettings

# The library has no types: it is Any here, and in this file alone.
_aiobotocore: Any = importlib.import_module("aiobotocore")
_config: Any = importlib.import_module("aiobotocore.config")
_errors: Any = importlib.import_module("botocore.exceptions")
_sessions: Any = importlib.import_module("aiobotocore.session")

_CONNECT_TIMEOUT = 5  # seconds
_READ_TIMEOUT = 40  # a long poll takes 20
_LARGE_BODY = 512 * 1024
_CREDENTIAL_TROUBLE = (
    _errors.ConfigNotFound,
    _errors.CredentialRetrievalError,
    _errors.NoAuthTokenError,
    _errors.PartialCredentialsError,
    _errors.ProfileNotFound,
    _errors.SSOTokenLoadError,
    _errors.TokenRetrievalError,
    _errors.UnauthorizedSSOTokenError,
)

# What a service's API looks like is megabytes of JSON: read once, for all sessions of the process.
_loader: Any = _sessions.AioSession().get_component("data_loader")


class Credentials:
    """Of the usual chain, and read again after AWS has refused them: whoever renewed them need not restart a node.

    The library asks its own kind of credentials for nothing but the first three methods.
    """

    def __init__(self, profile: str | None) -> None:
        self._profile = profile
        self._found: Any = None
        self._looking = asyncio.Lock()

    async def get_frozen_credentials(self) -> Any:
        async with self._looking:
            if self._found is None:
                # A new session each time: a session reads ~/.aws/config once.
                self._found = await _session(self._profile).get_credentials()
            return None if self._found is None else await self._found.get_frozen_credentials()

    async def get_account_id(self) -> str | None:
        frozen = await self.get_frozen_credentials()
        return None if frozen is None else frozen.account_id

    def get_deferred_property(self, name: str) -> Any:
        return self.get_account_id  # the only property that it defers

    def forget(self) -> None:
        self._found = None


class _Chain:
    """Stands where the library keeps its chain of credential providers."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    async def load_credentials(self) -> Credentials:
        return self._credentials


class Connection:
    def __init__(self, client: Any, credentials: Credentials) -> None:
        self._client = client
        self._credentials = credentials
        self.region = cast(str, client.meta.region_name)
        self._endpoint = cast(str, client.meta.endpoint_url)
        self._service = cast(str, client.meta.service_model.service_name)

    @classmethod
    async def open(
        cls, service: str, settings: AwsSettings, region: str | None, default_region: str | None
    ) -> Connection:
        """Raises ConnectorError when settings, environment and ~/.aws do not fit together."""
        try:
            session = _session(settings.profile)
            region = region or session.get_config_variable("region") or default_region
            if region is None:
                raise ConnectorError(f"no region is known for {service}: set region, or AWS_DEFAULT_REGION")
            await asyncio.to_thread(_warm_up, service)
            credentials = Credentials(settings.profile)
            session.register_component("credential_provider", _Chain(credentials))
            client = await session.create_client(
                service,
                region_name=region,
                endpoint_url=settings.endpoint_url,
                # Without TLS the machine's certificates are of no use, and take a tenth of a second to load.
                verify=False if (settings.endpoint_url or "").startswith("http://") else None,
                aws_access_key_id=settings.access_key_id,
                aws_secret_access_key=settings.secret_access_key,
                aws_session_token=settings.session_token,
                config=_client_config(settings),
            ).__aenter__()
            client.meta.events.register("before-send", _send_large_bodies_in_pieces)
        except (_errors.BotoCoreError, ValueError) as error:
            raise ConnectorError(f"no client for {service}: {error}") from error
        return cls(client, credentials)

    async def call(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        with self.errors(operation):
            return cast(dict[str, Any], await getattr(self._client, operation)(**parameters))

    @contextmanager
    def errors(self, operation: str) -> Generator[None]:
        shown = f"{self._service} {operation}"
        try:
            yield
        except _errors.ClientError as error:
            answer = cast(dict[str, Any], error.response)
            said = answer.get("Error", {})
            code = short_code(str(said.get("Code", "")) or "Unknown")
            status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            raise self._refused(shown, code, str(said.get("Message", "")), status) from error
        except _errors.NoCredentialsError as error:
            raise self._refused(shown, "NoCredentials", "", 403) from error
        except _CREDENTIAL_TROUBLE as error:
            raise self._refused(shown, "InvalidToken", str(error), 403) from error
        except _errors.ParamValidationError as error:
            raise AwsError(shown, "InvalidParameter", str(error), 400) from error
        except (_errors.HTTPClientError, aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ConnectorError(
                f"{shown}: {self._endpoint} cannot be reached: {error or type(error).__name__}"
            ) from error
        except (_errors.BotoCoreError, RuntimeError) as error:  # an answer that is cut; credentials that do not refresh
            raise ConnectorError(f"{shown}: {error or type(error).__name__}") from error

    def _refused(self, operation: str, code: str, message: str, status: int) -> AwsError:
        refused = AwsError(operation, code, message, status)
        if refused.credentials:
            self._credentials.forget()
        return refused

    async def close(self) -> None:
        await self._client.close()


def _session(profile: str | None) -> Any:
    session = _sessions.AioSession(profile=profile)
    session.register_component("data_loader", _loader)
    return session


def _warm_up(service: str) -> None:
    """Reads, in a thread, the files that making a client would read on the loop."""
    for name in ("endpoints", "partitions", "sdk-default-configuration", "_retry"):
        _loader.load_data_with_path(name)
    for kind in ("service-2", "endpoint-rule-set-1"):
        _loader.load_service_model(service, kind)


def _send_large_bodies_in_pieces(request: Any, **more: Any) -> None:
    """The HTTP library hands a body of bytes to the socket at once, and warns of the time which that takes."""
    if isinstance(request.body, bytes | bytearray) and len(request.body) > _LARGE_BODY:
        request.body = io.BytesIO(request.body)


def _client_config(settings: AwsSettings) -> Any:
    return _config.AioConfig(
        connect_timeout=_CONNECT_TIMEOUT,
        read_timeout=_READ_TIMEOUT,
        # One quick second try: a connection that was kept may be closed when it is used. All else is the host's.
        retries={"mode": "standard", "total_max_attempts": 2},
        # Connections are made when they are needed: one for each long poll, with hundreds of sources on a node.
        max_pool_connections=10_000,
        # A server of one's own has no name for each bucket, and may not know the newest checksums.
        s3={"addressing_style": "path" if settings.endpoint_url else "auto"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # As it is: the library's own is put together anew for each request, twice, which is an eighth of a request.
        user_agent=f"eventfn aiobotocore/{_aiobotocore.__version__}",
    )
