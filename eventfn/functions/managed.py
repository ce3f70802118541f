"""What the API keeps of functions and layers: one document each, frozen, in AWS's names where a field is AWS's.

PURE: shapes, and what follows from them alone. A mutation makes a new document of an old one and store.py keeps it
whole, so that a crash leaves the one before or the one after. How a document is shown on the wire stands in api/.

Source of names and meanings: Lambda's service model 2015-03-31 (contract: Control-plane REST API).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from eventfn.functions.policies import Policy

LATEST = "$LATEST"
LATEST_PUBLISHED = "$LATEST.PUBLISHED"  # the version that was published last

State = Literal["Pending", "Active", "Inactive", "Failed"]
UpdateStatus = Literal["InProgress", "Successful", "Failed"]
JsonObject = dict[str, Any]  # a structure of AWS's that is kept and returned, and not looked into


class Code(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A zip in the engine's blobs, or a folder of this machine that is used in place."""

    sha256: str  # base64, of the zip's bytes: CodeSha256
    size: int  # bytes, zipped
    unpacked: int = 0  # bytes
    blob: str | None = None  # the blob's digest, hex
    folder: str | None = None  # absolute path
    bootstrap: bool = False  # of a zip: a program of that name lies at its top


class AttachedLayer(msgspec.Struct, frozen=True, kw_only=True):
    """A layer version as a function has it: with its code, which stays when the layer version is deleted."""

    arn: str  # of the layer version
    code: Code


class Configuration(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="pascal"):
    """What FunctionConfiguration says and a version freezes. None: never set."""

    role: str
    runtime: str | None = None
    handler: str | None = None
    description: str = ""
    timeout: int = 3  # seconds
    memory_size: int = 128  # MB
    ephemeral_storage: int = 512  # MB
    package_type: str = "Zip"
    architectures: tuple[str, ...] = ("x86_64",)
    environment: dict[str, str] | None = None
    layers: tuple[AttachedLayer, ...] = ()
    dead_letter_target: str | None = None  # ARN; "": was set and cleared
    tracing_mode: str = "PassThrough"
    snap_start: str = "None"  # ApplyOn
    kms_key_arn: str | None = msgspec.field(default=None, name="KMSKeyArn")
    vpc_config: JsonObject | None = None
    file_system_configs: tuple[JsonObject, ...] = ()
    logging_config: JsonObject = {}
    durable_config: JsonObject | None = None
    tenancy_config: JsonObject | None = None
    capacity_provider_config: JsonObject | None = None


class Version(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="pascal"):
    """$LATEST, which changes, or a published version, of which nothing changes but its state."""

    number: str  # "$LATEST" or "3"
    configuration: Configuration
    code: Code
    revision_id: str
    last_modified_ms: int
    description: str | None = None  # PublishVersion's, before the configuration's
    state: State = "Pending"
    state_reason: str | None = None
    state_reason_code: str | None = None
    last_update_status: UpdateStatus | None = None
    last_update_status_reason: str | None = None
    last_update_status_reason_code: str | None = None
    runtime_version_arn: str | None = None  # that it was made with, or last ran on; None: it was not ready yet
    runtime_version_error: str | None = None  # why that one cannot be had any more

    @property
    def busy(self) -> bool:
        """No other mutation until it is ready, or has failed."""
        return self.state == "Pending" or self.last_update_status == "InProgress"


class Alias(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="pascal"):
    name: str
    function_version: str
    revision_id: str
    description: str = ""
    weights: dict[str, float] = {}  # another version -> its share, 0.0 to 1.0; the rest is `function_version`'s


class EventInvoke(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="pascal"):
    """How asynchronous events of one qualifier are retried, and where their records go."""

    last_modified_ms: int
    maximum_retry_attempts: int | None = None
    maximum_event_age_in_seconds: int | None = None
    on_success: str | None = None  # ARN
    on_failure: str | None = None  # ARN


class Provisioned(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Environments that are started ahead, of one qualifier."""

    requested: int
    last_modified_ms: int


class Scaling(msgspec.Struct, frozen=True, rename="pascal"):
    """How many environments a version of a capacity provider has: FunctionScalingConfig."""

    min_execution_environments: int = 0
    max_execution_environments: int | None = None  # None: no limit of its own


class Url(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="pascal"):
    """A function URL of the unqualified function or of an alias."""

    id: str  # 32 of [0-9a-z]: the first label of its host
    auth_type: str  # NONE or AWS_IAM
    created_ms: int
    modified_ms: int
    cors: JsonObject | None = None
    invoke_mode: str | None = None  # None: was never asked for, BUFFERED
    # Whether lambda:InvokeFunction has to be allowed too, as AWS asks of all URLs that were made since October 2025.
    # Those that this node made before it asked go on without.
    asks_for_both: bool = False


class ManagedFunction(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="pascal"):
    """One function with all that hangs on it. Keys of a map that are qualifiers are "" for the unqualified function
    where AWS distinguishes it from $LATEST (policies, urls), and "$LATEST" where it does not."""

    name: str
    region: str
    account: str
    latest: Version
    versions: dict[str, Version] = {}  # published: number -> version
    next_version: int = 1
    aliases: dict[str, Alias] = {}
    policies: dict[str, Policy] = {}
    reserved: int | None = None
    provisioned: dict[str, Provisioned] = {}
    event_invoke: dict[str, EventInvoke] = {}
    urls: dict[str, Url] = {}
    tags: dict[str, str] = {}
    recursive_loop: str = "Terminate"
    runtime_management: dict[str, JsonObject] = {}
    scaling: dict[str, JsonObject] = {}
    code_signing_config_arn: str | None = None

    @property
    def arn(self) -> str:
        """Unqualified."""
        return f"arn:aws:lambda:{self.region}:{self.account}:function:{self.name}"

    def qualified(self, qualifier: str) -> str:
        return f"{self.arn}:{qualifier}"

    def version(self, number: str) -> Version | None:
        return self.latest if number == LATEST else self.versions.get(number)

    def resolve(self, qualifier: str | None) -> Version | None:
        """The version that a qualifier names; an alias is its main version's."""
        if qualifier is None:
            return self.latest
        alias = self.aliases.get(qualifier)
        return self.version(qualifier if alias is None else alias.function_version)

    def all_versions(self) -> Iterator[Version]:
        """$LATEST, then the published ones as they were published."""
        yield self.latest
        yield from sorted(self.versions.values(), key=lambda version: int(version.number))

    def with_version(self, version: Version) -> ManagedFunction:
        if version.number == LATEST:
            return msgspec.structs.replace(self, latest=version)
        return msgspec.structs.replace(self, versions={**self.versions, version.number: version})

    def runtime_wanted(self, version: Version) -> str | None:
        """ARN of the only runtime version that it may run on; None: whatever the machine has now."""
        config = self.runtime_management.get(version.number, {})
        match config.get("UpdateRuntimeOn", "Auto"):
            case "Manual":
                return str(config["RuntimeVersionArn"])
            case "FunctionUpdate":
                return version.runtime_version_arn
            case _:
                return None

    def scaling_of(self, number: str) -> Scaling:
        """By its own number, or as the version that was published last."""
        config = self.scaling.get(number)
        if config is None and self.versions and number == max(self.versions, key=int):
            config = self.scaling.get(LATEST_PUBLISHED)
        return msgspec.convert(config or {}, Scaling)

    def deactivated(self, number: str) -> bool:
        """It may have no environment at all."""
        return self.scaling_of(number).max_execution_environments == 0

    def provisioned_of(self, number: str) -> int:
        """Environments that are kept ready for a version, by its own number or by the aliases that lead to it."""
        wanted = self.provisioned.get(number)
        total = wanted.requested if wanted else 0
        for name, each in self.provisioned.items():
            alias = self.aliases.get(name)
            if alias is not None and alias.function_version == number:
                total += each.requested
        return total


class Additions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="pascal"):
    """What the API has added to a function that eventfn.toml declares."""

    revision_id: str
    policies: dict[str, Policy] = {}
    urls: dict[str, Url] = {}


class LayerVersion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="pascal"):
    number: int
    code: Code
    created_ms: int
    description: str = ""
    license_info: str | None = None
    compatible_runtimes: tuple[str, ...] | None = None
    compatible_architectures: tuple[str, ...] | None = None
    policy: Policy | None = None
    policy_revision_id: str | None = None  # of its policy alone: all else of it never changes


class Layer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="pascal"):
    """All versions of a layer that are not deleted; their numbers are never given twice."""

    name: str
    region: str
    account: str
    versions: dict[str, LayerVersion] = {}
    next_version: int = 1

    @property
    def arn(self) -> str:
        return f"arn:aws:lambda:{self.region}:{self.account}:layer:{self.name}"
