"""The function URLs of a running node: which there are, and who may call them.

What belongs here: from the URL configs that the API keeps to what a listener answers, now and after each change. Not
here: requests and responses (the http connector), the configs themselves (api/urls.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import msgspec

from eventfn.api.errors import ApiError
from eventfn.api.identity import Identities, Principal
from eventfn.api.signatures import Request
from eventfn.clock import Clock
from eventfn.errors import EventfnError
from eventfn.functions.control import Control
from eventfn.functions.managed import ManagedFunction, Url
from eventfn.functions.permissions import Asked, Decision, Statement, evaluate
from eventfn.sources import Sources
from eventfn.trigger import Cors, Forbidden, FunctionUrl, UrlCaller, UrlRequest

_AFTER_A_FAULT = 5.0  # seconds
_EVERYTHING: Statement = {"Effect": "Allow", "Action": "*", "Resource": "*"}

log = logging.getLogger("eventfn.function_urls")


class FunctionUrls:
    """`run` it once what is declared runs. `identities` knows who has signed a request, as the listener is now."""

    def __init__(self, control: Control, sources: Sources, identities: Callable[[], Identities], clock: Clock) -> None:
        self._control = control
        self._sources = sources
        self._identities = identities
        self._clock = clock
        self._served: dict[str, Url] = {}
        self._look = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._ended = False
        control.store.on_change(self._function_changed)

    async def changed(self) -> None:
        """URL configs may have changed: returns once they are answered as they are now, or could not be."""
        if self._ended:
            return
        done = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        self._look.set()
        await done

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                await self._look.wait()
                self._look.clear()
                waiting, self._waiting = self._waiting, []
                try:
                    await self._serve()
                except EventfnError as error:
                    log.error("function URLs are not answered, trying again: %s", error)
                    _tell(waiting)
                    await self._clock.sleep(_AFTER_A_FAULT)
                    self._look.set()
                finally:
                    _tell(waiting)
        finally:
            self._ended = True
            _tell(self._waiting)

    async def _serve(self) -> None:
        functions = [function for name in self._control.names() if (function := self._control.get(name)) is not None]
        found = {
            function.qualified(key) if key else function.arn: (function, key, url)
            for function in functions
            for key, url in function.urls.items()
        }
        wanted = {arn: url for arn, (_, _, url) in found.items()}
        if wanted == self._served:
            return
        await self._sources.serve_urls([self._url(arn, *each) for arn, each in found.items()])
        self._served = wanted

    def _function_changed(self, _: str, before: ManagedFunction | None, after: ManagedFunction | None) -> None:
        if (before.urls if before else {}) != (after.urls if after else {}):
            self._look.set()

    def _url(self, arn: str, function: ManagedFunction, key: str, url: Url) -> FunctionUrl:
        reference = f"{function.name}:{key}" if key else function.name
        return FunctionUrl(
            id=url.id,
            region=function.region,
            caller=self._sources.caller(reference, arn),
            admit=self._admission(arn, function.name, key, url),
            streams=url.invoke_mode == "RESPONSE_STREAM",
            cors=None if url.cors is None else msgspec.convert(url.cors, Cors),
        )

    # --- who may -----------------------------------------------------------------------------------------------------

    def _admission(self, arn: str, name: str, key: str, url: Url) -> Callable[[UrlRequest], UrlCaller | None]:
        def admit(request: UrlRequest) -> UrlCaller | None:
            """By the policy as it is now. Of an alias that was deleted the URL lives on, and nobody may call it."""
            function = self._control.get(name)
            if function is None or function.resolve(key or None) is None:
                raise Forbidden
            policy = function.policies.get(key)
            statements = () if policy is None else policy.statements
            context = {
                "lambda:functionurlauthtype": (url.auth_type,),
                "lambda:functionarn": (arn,),
                "lambda:invokedviafunctionurl": ("true",),
                "aws:sourceip": (request.source_ip,),
            }

            def asked(action: str, principal: Principal | None) -> Asked:
                if principal is None:
                    return Asked(action=action, resource=arn, context=context)
                return Asked(
                    action=action, resource=arn, principal=principal.arn, account=principal.account, context=context
                )

            principal, caller = (None, None) if url.auth_type == "NONE" else self._signer(request)
            invoke_url, invoke = asked("lambda:InvokeFunctionUrl", principal), asked("lambda:InvokeFunction", principal)
            _refuse_denied(statements, invoke_url, invoke, of_resource=True)
            identity: tuple[Statement, ...] = ()
            if principal is not None:
                identity = (_EVERYTHING,) if principal.policy is None else principal.policy
                _refuse_denied(identity, invoke_url, invoke)
            for wanted in (invoke_url, invoke) if url.asks_for_both else (invoke_url,):
                by_identity = evaluate(identity, wanted) is Decision.ALLOWED
                by_resource = evaluate(statements, wanted, of_resource=True) is Decision.ALLOWED
                if principal is None:
                    allowed = by_resource
                elif principal.account == self._control.account:
                    allowed = by_identity or by_resource
                else:
                    allowed = by_identity and by_resource
                if not allowed:
                    raise Forbidden
            return caller

        return admit

    def _signer(self, request: UrlRequest) -> tuple[Principal, UrlCaller]:
        """Raises Forbidden, in AWS's words."""
        whole = Request(
            method=request.method, path=request.path, query=request.query, headers=request.headers, body=request.body
        )
        try:
            identities = self._identities()
            principal = identities.prove(identities.claim(whole), whole).principal
        except ApiError as error:
            if error.code == "MissingAuthenticationTokenException":
                raise Forbidden from error
            raise Forbidden(str(error.body.get("message") or error.body.get("Message") or "") or None) from error
        key = _access_key(whole)
        user = principal.account if principal.arn.endswith(":root") else key
        return principal, UrlCaller(access_key=key, account=principal.account, user_id=user, arn=principal.arn)


def _refuse_denied(statements: tuple[Statement, ...], *asked: Asked, of_resource: bool = False) -> None:
    if any(evaluate(statements, each, of_resource=of_resource) is Decision.DENIED for each in asked):
        raise Forbidden


def _access_key(request: Request) -> str:
    """Of a request that has a signature."""
    credential = (request.header("authorization") or request.query).partition("Credential=")[2]
    return credential.partition("/")[0].partition("%2F")[0]


def _tell(waiting: list[asyncio.Future[None]]) -> None:
    for each in waiting:
        if not each.done():
            each.set_result(None)
