"""What the API keeps beside functions and layers: code signing configs and capacity providers.

PURE: shapes only, in AWS's names.
"""

from __future__ import annotations

import msgspec

from eventfn.functions.managed import JsonObject

SIGNING = "code-signing/"  # code-signing/<id>
CAPACITY = "capacity/"  # capacity/<name>


class CodeSigningConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="pascal"):
    id: str  # "csc-" and 17 hex digits
    arn: str
    publishers: tuple[str, ...]  # ARNs of signing profile versions
    modified_ms: int
    description: str = ""
    untrusted: str = "Warn"  # UntrustedArtifactOnDeployment
    tags: dict[str, str] = {}


class CapacityProvider(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="pascal"):
    name: str
    arn: str
    settings: JsonObject  # VpcConfig, PermissionsConfig ..., as they were given
    modified_ms: int
    tags: dict[str, str] = {}
