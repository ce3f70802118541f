"""Code signing configs, which function has which, and what follows for code that is deployed to it.

Signatures are AWS Signer's, whose format and whose profiles' certificates are nobody's but AWS's: here no signature can
be verified, and nothing is from an allowed publisher for all that this node knows. So Enforce lets no code through, and
Warn all of it with a warning.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from eventfn.api.common import iso, named, page, paged, refuse_qualified
from eventfn.api.operations import Answer, Call, Handler
from eventfn.functions.configs import SIGNING, CodeSigningConfig
from eventfn.functions.control import Control
from eventfn.functions.managed import ManagedFunction
from eventfn.functions.refusals import Refusal
from eventfn.observe.metrics import Metrics

log = logging.getLogger("eventfn.api")


class CodeSigning:
    def __init__(self, control: Control) -> None:
        self._control = control

    def operations(self) -> Mapping[str, Handler]:
        return {
            "CreateCodeSigningConfig": self._create,
            "GetCodeSigningConfig": self._get,
            "UpdateCodeSigningConfig": self._update,
            "DeleteCodeSigningConfig": self._delete,
            "ListCodeSigningConfigs": self._list,
            "ListFunctionsByCodeSigningConfig": self._list_functions,
            "PutFunctionCodeSigningConfig": self._attach,
            "GetFunctionCodeSigningConfig": self._attached,
            "DeleteFunctionCodeSigningConfig": self._detach,
        }

    async def _create(self, call: Call) -> Answer:
        config_id = "csc-" + secrets.token_hex(9)[:17]
        config = CodeSigningConfig(
            id=config_id,
            arn=f"arn:aws:lambda:{call.region}:{self._control.account}:code-signing-config:{config_id}",
            publishers=tuple(call.input["AllowedPublishers"]["SigningProfileVersionArns"]),
            modified_ms=self._control.clock.now_ms(),
            description=call.input.get("Description", ""),
            untrusted=call.input.get("CodeSigningPolicies", {}).get("UntrustedArtifactOnDeployment", "Warn"),
            tags=call.input.get("Tags", {}),
        )
        await self._control.store.put_document(SIGNING + config_id, config)
        return Answer(_shown(config))

    async def _get(self, call: Call) -> Answer:
        return Answer(_shown(self._found(call)))

    async def _update(self, call: Call) -> Answer:
        given = call.input

        def edit(before: CodeSigningConfig | None) -> CodeSigningConfig:
            if before is None:
                raise _none(given["CodeSigningConfigArn"])
            publishers = given.get("AllowedPublishers", {}).get("SigningProfileVersionArns", before.publishers)
            policies = given.get("CodeSigningPolicies", {})
            return msgspec.structs.replace(
                before,
                publishers=tuple(publishers),
                description=given.get("Description", before.description),
                untrusted=policies.get("UntrustedArtifactOnDeployment", before.untrusted),
                modified_ms=self._control.clock.now_ms(),
            )

        key = SIGNING + self._found(call).id
        config = await self._control.store.change_document(key, CodeSigningConfig, edit)
        assert config is not None, "an edit gives one"
        return Answer(_shown(config))

    async def _delete(self, call: Call) -> Answer:
        config = self._found(call)
        if self._functions_of(config.arn):
            raise Refusal(
                "ResourceConflictException",
                "Cannot delete the code signing configuration, because functions are using it: detach it first.",
            )
        await self._control.store.put_document(SIGNING + config.id, None)
        return Answer()

    async def _list(self, call: Call) -> Answer:
        configs = list(self._control.store.documents(SIGNING, CodeSigningConfig).values())
        found, marker = paged(configs, call, lambda config: config.id)
        return Answer(page("CodeSigningConfigs", [_shown(config)["CodeSigningConfig"] for config in found], marker))

    async def _list_functions(self, call: Call) -> Answer:
        found, marker = paged(self._functions_of(self._found(call).arn), call, str)
        return Answer(page("FunctionArns", found, marker))

    # --- of a function -----------------------------------------------------------------------------------------------

    async def _attach(self, call: Call) -> Answer:
        target = named(self._control, call)
        refuse_qualified(target)
        self._control.require(target, region=call.region)
        arn = call.input["CodeSigningConfigArn"]
        check_attached(self._control, arn)
        await self._control.change(target.name, lambda function: _with(function, arn))
        return Answer({"CodeSigningConfigArn": arn, "FunctionName": target.name})

    async def _attached(self, call: Call) -> Answer:
        target = named(self._control, call)
        refuse_qualified(target)
        arn = self._control.require(target, region=call.region).code_signing_config_arn
        return Answer({} if arn is None else {"CodeSigningConfigArn": arn, "FunctionName": target.name})

    async def _detach(self, call: Call) -> Answer:
        target = named(self._control, call)
        refuse_qualified(target)
        self._control.require(target, region=call.region)
        await self._control.change(target.name, lambda function: _with(function, None))
        return Answer()

    def _functions_of(self, arn: str) -> list[str]:
        found = (self._control.store.get(name) for name in self._control.store.names())
        return [each.arn for each in found if each is not None and each.code_signing_config_arn == arn]

    def _found(self, call: Call) -> CodeSigningConfig:
        arn = call.input["CodeSigningConfigArn"]
        config = _at(self._control, arn)
        if config is None:
            raise _none(arn)
        return config


def check_attached(control: Control, arn: str) -> CodeSigningConfig:
    """Raises Refusal: a function cannot have what is not there."""
    config = _at(control, arn)
    if config is None:
        raise Refusal(
            "CodeSigningConfigNotFoundException",
            "The code signing configuration cannot be found. "
            f"Check that the provided configuration is not deleted: {arn}.",
        )
    return config


def check_deployed(control: Control, metrics: Metrics, config_arn: str | None, artifacts: Iterable[str]) -> None:
    """`artifacts`: ARNs of the function whose code is new, and of layers that it did not have before. Raises Refusal,
    in Lambda's words, where its config enforces that they are signed."""
    if config_arn is None:
        return
    config = check_attached(control, config_arn)
    for arn in artifacts:
        metrics.signature_validation_errors += 1
        if config.untrusted == "Enforce":
            raise Refusal(
                "CodeVerificationFailedException",
                "Lambda cannot deploy the function. The function or layer might be signed using a signature that the "
                f"client is not configured to accept. Check the provided signature for {arn}. (eventfn verifies no "
                "signatures of AWS Signer: give the function a code signing config whose policy is Warn, or none.)",
            )
        log.warning("%s is deployed without a signature that was verified; %s says Warn", arn, config.arn)


def _at(control: Control, arn: str) -> CodeSigningConfig | None:
    config = control.store.document(SIGNING + arn.rpartition(":")[2], CodeSigningConfig)
    return config if config is not None and config.arn == arn else None


def _none(arn: str) -> Refusal:
    message = f"The Lambda code signing configuration {arn} can not be found."
    return Refusal("ResourceNotFoundException", message, typed=False)


def _with(function: ManagedFunction, arn: str | None) -> ManagedFunction:
    return msgspec.structs.replace(function, code_signing_config_arn=arn)


def _shown(config: CodeSigningConfig) -> dict[str, Any]:
    shown = {
        "CodeSigningConfigId": config.id,
        "CodeSigningConfigArn": config.arn,
        "Description": config.description,
        "AllowedPublishers": {"SigningProfileVersionArns": config.publishers},
        "CodeSigningPolicies": {"UntrustedArtifactOnDeployment": config.untrusted},
        "LastModified": iso(config.modified_ms),
    }
    return {"CodeSigningConfig": shown}
